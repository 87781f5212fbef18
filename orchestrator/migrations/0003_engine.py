from django.db import migrations

from tenants.kernel.sql import run_sql_file

_FUNCTIONS = """
muster_event, muster_claim_all, muster_may_open, muster_open_calls, muster_charge,
muster_correct_run, muster_end_calls, muster_write_ends, muster_correct_call,
muster_doubt_calls, muster_settle_calls, muster_want_advance, muster_count_in_flight, muster_room, muster_send,
muster_is_waiting, muster_queue, muster_make_ready, muster_line_up, muster_leave_lane, muster_refill,
muster_give_places, muster_hand_out, muster_lower_gates, muster_stand_below, muster_finish_all, muster_sum_calls, muster_begin_advance,
muster_settle_steps, muster_start_wait, muster_stop_steps, muster_queue_level,
muster_queue_steps, muster_top_up, muster_finish_run, muster_begin_map, muster_open_maps,
muster_begin_loop, muster_add_round, muster_open_loops, muster_added_steps, muster_count_added,
muster_begin_call, muster_ended_calls, muster_stop_calls, muster_called_runs, muster_tell_parent, muster_stop_run, muster_call_back, muster_pause_run, muster_tell_of_pause,
muster_resume_run, muster_retry_run, muster_renew_leases, muster_version_plan,
muster_check_transition
"""
_RUNS = """
muster_open_runs, muster_has_turn_before, muster_is_its_turn, muster_take_turn, muster_next_turns,
muster_cap_changed
"""
_SWEEPS = """
muster_sweep_paused, muster_sweep_turns, muster_sweep_find, muster_publish_again, muster_wake, muster_sweep_runs, muster_sweep_ends
"""
_VELOCITY = """
muster_spending, muster_busiest_minutes, muster_keep_minute, muster_median_minute,
muster_pause_for_spend
"""
_TOOLS = "muster_begin_tools, muster_end_tool"
_DEGRADE = "muster_cap_use, muster_degrade, muster_ask_to_go_on, muster_give_up_asking"


class Migration(migrations.Migration):
    dependencies = [
        ("orchestrator", "0002_isolation"),
        ("tenants", "0007_fairness"),
        ("costs", "0005_ledger_periods"),
    ]

    operations = [
        migrations.RunSQL(
            # Room in each page for the two or three versions that a step goes through.
            "ALTER TABLE agent_run SET (fillfactor = 50); ALTER TABLE run SET (fillfactor = 50)",
            "ALTER TABLE agent_run RESET (fillfactor); ALTER TABLE run RESET (fillfactor)",
        ),
        run_sql_file(
            __file__,
            "engine.sql",
            reverse=f"DROP FUNCTION {_FUNCTIONS} CASCADE; DROP TYPE muster_hint",
        ),
        run_sql_file(
            __file__,
            "runs.sql",
            reverse=f"DROP FUNCTION {_RUNS} CASCADE",
        ),
        run_sql_file(
            __file__,
            "sweep.sql",
            reverse=f"DROP FUNCTION {_SWEEPS}",
        ),
        run_sql_file(__file__, "velocity.sql", reverse=f"DROP FUNCTION {_VELOCITY}"),
        run_sql_file(__file__, "degrade.sql", reverse=f"DROP FUNCTION {_DEGRADE}"),
        run_sql_file(__file__, "tools.sql", reverse=f"DROP FUNCTION {_TOOLS}"),
    ]
