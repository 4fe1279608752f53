from __future__ import annotations

from pathlib import Path

import pytest

from scripts.audit_dependencies import concerns, main, pins


def test_every_list_is_read() -> None:
    found = pins()
    assert {"torch", "aiokafka", "faust-streaming", "redis", "numpy", "pytest"} <= set(found)


@pytest.mark.parametrize(
    ("events", "holed"),
    [
        ([{"introduced": "0"}, {"fixed": "2.1"}], True),
        ([{"introduced": "0"}, {"fixed": "2.0"}], False),
        ([{"introduced": "0"}, {"last_affected": "2.0"}], True),
        ([{"introduced": "0"}, {"last_affected": "1.9"}], False),
        ([{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "1.5"}], True),
        ([{"introduced": "2.0.1"}], False),
        ([{"introduced": "0"}], True),
        ([{"introduced": "r17"}], True),  # no version as Python has them: look at it
        ([{"introduced": "0"}, {"fixed": "r17"}], True),
    ],
)
def test_a_range_holds_what_is_below_its_mend(events: list[dict[str, str]], holed: bool) -> None:
    affected = {"package": {"name": "Some_Thing"}, "ranges": [{"type": "ECOSYSTEM"}]}
    affected["ranges"][0]["events"] = events  # type: ignore[index]
    assert concerns({"affected": [affected]}, "some-thing", "2.0") is holed
    assert not concerns({"affected": [affected]}, "another", "2.0")


def test_a_hole_is_named_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (version,) = pins()["torch"]
    folder = tmp_path / "vulns" / "torch"
    folder.mkdir(parents=True)
    text = (
        "id: PYSEC-1\nmodified: 2026-01-02\naliases: [CVE-1]\naffected:\n"
        f"- package: {{name: torch, ecosystem: PyPI}}\n  versions: ['{version}']\n"
    )
    (folder / "PYSEC-1.yaml").write_text(text)
    assert main(["--advisories", str(tmp_path)]) == 1
    assert f"torch {version}: PYSEC-1 (CVE-1)" in capsys.readouterr().out
    (folder / "PYSEC-1.yaml").write_text(text + "withdrawn: 2026-01-03\n")
    with pytest.raises(SystemExit):
        main(["--advisories", str(tmp_path)])
