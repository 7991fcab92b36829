"""Ways to make a retrieval outcome say more than its run; see `forgeries.py`. What is unknown is set aside, too."""

from .forgeries import Forgery, Record, put

WAYS = ("image_to_text", "text_to_image")


def _all_right(record: Record) -> None:
    for way in WAYS:
        record[way]["attacked"] = record[way]["clean"]


def _one_rank(record: Record) -> None:
    ranks = record["image_to_text"]["attacked"]
    ranks[ranks.index(max(ranks))] -= 1


def _clean_rank(record: Record) -> None:
    record["image_to_text"]["clean"][0] ^= 1


def _fewer_images(record: Record) -> None:
    for side in ("clean", "attacked"):
        record["image_to_text"][side].pop()


def _fewer_captions(record: Record) -> None:
    record["captions_changed"] = 0
    for side in ("clean", "attacked"):
        record["text_to_image"][side].pop()


def _more_images(record: Record) -> None:
    record["cell"]["limit"] = 10**6
    for way in WAYS:
        for side in ("clean", "attacked"):
            record[way][side] += [0] * 5000


def _without_attack(record: Record) -> None:
    record["cell"]["eps"], record["captions_changed"] = "0", 0


FORGERIES = [
    Forgery("a rank that is a boolean", put("image_to_text", "clean", 0, True), "aside", "came True"),
    Forgery("a rank in quotes", put("image_to_text", "clean", 0, "0"), "aside", "came '0'"),
    Forgery("a rank below zero", put("text_to_image", "attacked", 0, -1), "aside", "from 0"),
    Forgery("a rank beyond the captions", put("image_to_text", "clean", 0, 999), "aside", "rank 999 among"),
    Forgery("a rank beyond the images", put("text_to_image", "clean", 0, 4), "aside", "rank 4 among 3 wrong answers"),
    Forgery("fewer clean ranks", lambda r: r["image_to_text"]["clean"].pop(), "aside", "one rank a query"),
    Forgery("no images", put("image_to_text", {"clean": [], "attacked": []}), "aside", "image_to_text"),
    Forgery("a schema of tomorrow", put("schema_version", 99), "aside", "schema_version"),
    Forgery("a field more", put("verified", True), "aside", "no such field"),
    Forgery("a date in the future", put("provenance", "made", "2099-01-01T00:00:00Z"), "aside", "in the future"),
    Forgery("a maker of another kind", put("provenance", "maker", "the referee"), "aside", "maker"),
    Forgery("batches of nothing", put("provenance", "batch_size", 0), "aside", "batch_size"),
    Forgery("eps by zero", put("cell", "eps", "1/0"), "aside", "no number"),
    Forgery("eps below zero", put("cell", "eps", "-1/255"), "aside", "eps"),
    Forgery("eps beyond any image", put("cell", "eps", "2"), "aside", "images have values from 0 to 1"),
    Forgery("eps beyond any number", put("cell", "eps", "1" + "0" * 60), "aside", "eps"),
    Forgery("no words", put("cell", "text", "budget", 0), "aside", "budget"),
    Forgery("no candidates", put("cell", "text", "candidates", 0), "aside", "candidates"),
    Forgery("a seed in quotes", put("cell", "seed", "0"), "aside", "seed"),
    Forgery("no limit", put("cell", "limit", 0), "aside", "limit"),
    Forgery("a name with a line break", put("cell", "method", "tecoa\nfirst"), "aside", "method"),
    Forgery("a limit below its images", put("cell", "limit", 2), "aside", "more than the limit"),
    Forgery("hard images left out", _fewer_images, "aside", "3 images, where limit 4 takes 4"),
    Forgery("a caption left out", _fewer_captions, "aside", "captions, where these images have"),
    Forgery("a large limit with few images", put("cell", "limit", 20), "aside", "4 images, where limit 20 takes"),
    Forgery("more images than there are", _more_images, "aside", "where the data set has"),
    Forgery("more captions changed than there are", put("captions_changed", 10**6), "aside", "captions changed"),
    Forgery("captions changed that is a boolean", put("captions_changed", True), "aside", "came True"),
    Forgery("ranks that fell without an attack", _without_attack, "aside", "changed no image and no caption"),
    Forgery("an attack that nobody has", put("cell", "attack", "mercy"), "aside", "'mercy' is not known"),
    Forgery("a method that nobody has", put("cell", "method", "winner"), "aside", "'winner' is not known"),
    Forgery("a path for a method", put("cell", "method", "evil.py:Evil"), "aside", "'evil.py:Evil'"),
    Forgery("a method without features", put("cell", "method", "ttc"), "aside", "more than a tower"),
    Forgery("another method's name", put("cell", "method", "tecoa"), "aside", "another"),
    Forgery("another attack's name", put("cell", "attack", "dra"), "verify"),
    Forgery("a backbone that nobody has", put("cell", "backbone", "miniclip-xl"), "aside", "'miniclip-xl'"),
    Forgery("data that nobody has", put("cell", "dataset", "easy_set"), "aside", "easy_set"),
    Forgery("data without captions", put("cell", "dataset", "digits"), "aside", "is a classification set"),
    Forgery("other data", put("cell", "dataset_digest", "d" * 64), "aside", "another revision"),
    Forgery("an invented digest of code", put("cell", "code_digest", "c" * 64), "aside", "another code"),
    Forgery("an invented digest of the method", put("cell", "method_digest", "m"), "aside", "another method"),
    Forgery("other weights", put("cell", "backbone_digest", "b" * 64), "aside", "another backbone"),
    Forgery("other words", put("cell", "text_source_digest", "w"), "aside", "another source of words"),
    Forgery("as if nothing had been attacked", _all_right, "verify"),
    Forgery("one rank lower", _one_rank, "verify"),
    Forgery("another clean rank", _clean_rank, "verify"),
    Forgery("another count of captions", put("captions_changed", 1), "verify"),
]
