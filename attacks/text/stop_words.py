"""Words that a text attack leaves alone: function words of English.

The published attacks use a list of 292 entries; ours is of the same kind: it holds `a`, `this` and `some`, and not
`photo`. Where the two differ is written down, so that a protocol can say which list it means. As coded, comparing
knows case: `This` may be attacked while `this` may not.
"""

_LIST = """
a about above across after afterwards again against ain all almost alone along already also although am among amongst an
and another any anyhow anyone anything anyway anywhere are aren aren't around as at b back be been before beforehand
behind being below beside besides between beyond both but by can can't cannot could couldn couldn't d did didn didn't do
does doesn doesn't doing don don't done down due during each either else elsewhere enough even ever everyone
everything everywhere except few first for former formerly from further had hadn hadn't has hasn hasn't have haven
haven't having he hence her here hereafter hereby herein hereupon hers herself him himself his how however i if
in indeed into is isn isn't it it's its itself just latter latterly least ll m ma may me meanwhile might mightn mightn't
mine more moreover most mostly must mustn mustn't my myself needn needn't neither never nevertheless next no nobody none
noone nor not nothing now nowhere o of off on once one only onto or other others otherwise our ours ourselves out over
own per please quite rather re s same shan shan't she she's should should've shouldn shouldn't since so some somehow
someone something sometime somewhere such t than that that'll the their theirs them themselves then thence there
thereafter thereby therefore therein thereupon these they this those through throughout thru thus to together too
toward towards under unless until up upon ve very was wasn wasn't we were weren weren't what whatever when whence
whenever where whereafter whereas whereby wherein whereupon wherever whether which whichever while whither who whoever
whole whom whose why will with within without won won't would wouldn wouldn't y yet you you'd you'll you're you've your
yours yourself yourselves
"""
STOP_WORDS = frozenset(_LIST.split())

# Source: attack/bert_attack.py of Co-Attack at 96f2c0e, the same in SGA and MMCoA.
_OURS_ALONE = """
be can't did do does doing done each few further had has have having m ma might own quite rather re should since so
someone together very whichever will
"""
_THEIRS_ALONE = """empty hundred namely used . - / ? " , & ! @ % ^ * ( ) + = < > | : ; \uff5e \u00b7"""
PUBLISHED = (STOP_WORDS - {*_OURS_ALONE.split()}) | {*_THEIRS_ALONE.split(), "a the"}
LISTS = {"ours": STOP_WORDS, "published": PUBLISHED}


def is_stop_word(word: str, case: str, listed: str = "ours") -> bool:
    """Whether a word is on a list, `ours` or `published`; `case` is `case-sensitive` or `case-folded`."""
    return (word.casefold() if case == "case-folded" else word) in LISTS[listed]
