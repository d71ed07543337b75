"""The committed gRPC stubs are those of the committed .proto files."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))


def test_committed_stubs_are_what_the_pinned_compiler_makes_of_the_protos(tmp_path: Path) -> None:
    from stubs import compile_stubs

    compile_stubs(tmp_path)
    made = sorted((tmp_path / "ryzen_protos" / "v1").iterdir())
    assert len(made) == 9
    for each in made:
        committed = ROOT / "protos" / "ryzen_protos" / "v1" / each.name
        assert each.read_text() == committed.read_text(), f"{each.name} is stale: run `make stubs`"
