"""What the server imports that processes are forked from (`apart.py`): all that a cell needs, and nothing is computed.

Heavy packages are imported lazily elsewhere, so that a list of methods need not wait for them; here they are wanted.
"""

import open_clip as open_clip

from vlm_gauntlet.attacks.registry import attacks
from vlm_gauntlet.fixtures.backbones import tokenizer
from vlm_gauntlet.methods.registry import methods

from . import attacking as attacking
from . import described as described
from . import known_here as known_here
from . import witness as witness

CONTEXTS = (32, 77)  # of the embedded backbones
FOUND = (methods(), attacks(), [tokenizer(context) for context in CONTEXTS])
