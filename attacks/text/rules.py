"""How sentences are attacked: the schema of every attack on text."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class WordSwap(BaseModel):
    """One word for another, in the order of the words' importance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["characters", "wordnet", "masked-lm"] = Field(description="where candidates come from")
    index_shift: Literal["none", "as_coded", "corrected"] = Field(
        default="none", description="masked-lm: predictions at the token before (published code), or at the word itself"
    )
    candidates: int = Field(default=10, ge=1, description="for each word, at most")
    budget: int = Field(default=1, ge=1, description="words that may change in a sentence")
    stop_words: Literal["case-sensitive", "case-folded"] = "case-folded"
    distance: Literal["kl", "squared"] = Field(default="kl", description="of the sentence's features to the clean ones")
    forbid_class_names: bool = Field(default=True, description="no class name may be written into a sentence")
    max_length: int = Field(default=30, ge=1, description="words and word pieces beyond are left alone")

    @model_validator(mode="after")
    def _consistent(self) -> "WordSwap":
        if (self.source == "masked-lm") != (self.index_shift != "none"):
            raise ValueError("index_shift belongs to the source masked-lm, and must be chosen there")
        return self
