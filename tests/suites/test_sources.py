"""Images are transferred from every model at hand, each once, and a key knows them all."""

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.methods.listed import HERE
from vlm_gauntlet.methods.registry import method, methods
from vlm_gauntlet.suites.keys import attack_code
from vlm_gauntlet.suites.sources import sources
from vlm_gauntlet.training.pins import read_pins

QUERY = protocol("transfer-query-500-black-box-linf-16-255")


def names(name: str) -> list[str]:
    backbone = load_backbone("miniclip-vit")
    return [*sources(method(name).build(backbone), backbone)]


def test_who_stands_on_what() -> None:
    tuned = [
        name
        for name, kind in sorted(methods().items())
        if kind.offers("tuned_backbone") and "miniclip-vit" in read_pins(HERE / name)
    ]
    assert {"fare", "tecoa"} <= set(tuned)
    assert names("undefended") == ["undefended", *tuned]
    assert names("tecoa") == ["undefended", *tuned], "its own tower is there already"
    assert names("ttc@tecoa")[: 1 + len(tuned)] == ["undefended", *tuned]
    assert [n for n in names("aom") if n.startswith("branch")], "what is mixed is a source of its own"


def test_the_key_knows_what_images_are_made_on() -> None:
    backbone = load_backbone("miniclip-vit")
    found = sources(method("undefended").build(backbone), backbone)
    fewer = {"undefended": found["undefended"]}
    other = {**found, "tecoa": found["undefended"]}
    codes = {attack_code(QUERY, models, backbone) for models in (found, fewer, other, {})}
    assert len(codes) == 4
