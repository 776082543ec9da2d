"""Everything that can go wrong, in one tree.

NablaError
├── PromptError            one prompt cannot be processed; the others go on
│   ├── ContextError       prompt plus response do not fit the model's context
│   ├── RenderError        a chat template or tokenizer does not carry the prompt as it is
│   ├── NonFiniteError     a reward, likelihood or gradient is NaN or infinite
│   └── EncodingError      a token or text has no counterpart in the other vocabulary
└── ModelError             a model folder cannot be used; nothing can run with it
    ├── HeadError          the model's output head is not the kind needed
    └── VocabularyError    LM and reward model do not share enough tokens
"""


class NablaError(Exception):
    """Base of every error this package raises on purpose."""


class PromptError(NablaError):
    """One prompt cannot be processed. Thrown into that prompt's generator alone."""


class ContextError(PromptError):
    """Prompt plus response do not fit the model's context."""


class RenderError(PromptError):
    """A chat template or a tokenizer does not carry the prompt as it is."""


class NonFiniteError(PromptError):
    """A reward, likelihood or gradient is NaN or infinite."""


class EncodingError(PromptError):
    """A token or text has no counterpart in the other vocabulary."""


class ModelError(NablaError):
    """A model folder cannot be used."""


class HeadError(ModelError):
    """The model's output head is not the kind needed."""


class VocabularyError(ModelError):
    """LM and reward model do not share enough tokens."""


# What a reward model raises for a response that it cannot read.
UNREADABLE = (ContextError, EncodingError)
