from random import Random

from orchestrator.chaos.schedule import LONG, SHORT, deeds, faults


def test_seed_reproduces_faults_and_deeds() -> None:
    assert faults(Random("7 faults"), LONG) == faults(Random("7 faults"), LONG)
    assert deeds(Random("7 deeds"), LONG) == deeds(Random("7 deeds"), LONG)
    assert faults(Random("7 faults"), LONG) != faults(Random("8 faults"), LONG)


def test_faults_of_each_kind_come_as_often_as_the_size_says() -> None:
    kinds = [fault.kind for fault in faults(Random(1), LONG)]

    assert {kind: kinds.count(kind) for kind in kinds} == LONG.faults


def test_what_is_paused_is_resumed() -> None:
    told = deeds(Random(3), SHORT)

    paused = {deed.run: deed.at for deed in told if deed.what == "pause"}
    resumed = {deed.run: deed.at for deed in told if deed.what == "resume"}
    assert paused.keys() == resumed.keys()
    assert all(paused[run] < resumed[run] for run in paused)
