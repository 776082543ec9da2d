from jobs import demo


def test_the_demo_shows_a_trace_and_a_second_one_is_fresh(cluster, tmp_path, monkeypatch, capsys):
    config = tmp_path / "demo.yaml"
    config.write_text(
        "prompts: {limit: 16}\nlm: {path: scripted}\nverify: {method: embedded}\n"
        "decoding: {nabla: {max_rollouts: 1}}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "CONFIG", config)
    assert demo.main([]) == 0
    output = capsys.readouterr().out
    for words in ("runs/demo-1: done", "mean reward", "accuracy", "  before  ", "next:"):
        assert words in output
    before, after = (x for x in output.splitlines() if x.startswith(("  before", "  after")))
    assert before.count("[") == after.count("[") == 1
    assert "[9]" in after

    (tmp_path / "runs" / "demo-1" / "_SUCCESS").unlink()
    assert demo.main([]) == 0
    assert "resuming runs/demo-1" in capsys.readouterr().out
    assert demo.main([]) == 0
    assert "runs/demo-2: done" in capsys.readouterr().out
