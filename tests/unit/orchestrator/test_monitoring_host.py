from concurrent.futures import ThreadPoolExecutor

from orchestrator.monitoring.host import host_sample


def test_sample_tells_what_this_process_takes() -> None:
    sample = host_sample()

    assert sample.memory_used_mb > 10
    assert 0 < sample.memory_percent < 100
    assert sample.cpu_percent >= 0


def test_sample_is_taken_once_however_many_ask() -> None:
    with ThreadPoolExecutor(8) as pool:
        samples = list(pool.map(lambda _: host_sample(), range(100)))

    assert len(set(samples)) <= 2
