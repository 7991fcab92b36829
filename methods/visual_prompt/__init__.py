"""Visual prompting on TeCoA's loss: a frame around the picture and tokens behind the patches."""
