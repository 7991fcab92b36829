"""How sentences are attacked: the schema of every attack on text."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

LATER = ("split", "written", "combinations", "stop_list")  # fields that records from before them do not hold


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
    split: Literal["punctuation-apart", "spaces"] = Field(
        default="punctuation-apart",
        description="what a word is: letters without the punctuation around them, or all between two spaces (published "
        "code), so that `ship.` is one word and its full stop goes with it",
    )
    written: Literal["words", "anything"] = Field(
        default="words",
        description="masked-lm: what may be written in a word's place: one word, or also phrases, punctuation and "
        "special tokens (published code)",
    )
    combinations: Literal["cut", "all"] = Field(
        default="cut",
        description="masked-lm: of a word of several pieces, combinations cut to `candidates`, or all that the source "
        "makes, up to 24 (published code)",
    )
    stop_list: Literal["ours", "published"] = Field(
        default="ours", description="which words are left alone: our own list, or that of the published code"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "WordSwap":
        if (self.source == "masked-lm") != (self.index_shift != "none"):
            raise ValueError("index_shift belongs to the source masked-lm, and must be chosen there")
        if self.source != "masked-lm" and (self.written, self.combinations) != ("words", "cut"):
            raise ValueError("written and combinations belong to the source masked-lm")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Later switches only where they are not at their defaults: records from before them keep their keys."""
        fields = type(self).model_fields
        return {n: v for n, v in dump(self).items() if n not in LATER or v != fields[n].default}
