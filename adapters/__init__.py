"""The methods: one file each, and the file's name is the method's name.

To add one, write `adapters/my_method.py`, or a file of your own run as `--method ./my_method.py`:

    @dataclass(frozen=True)
    class Adapter:
        title: ClassVar[str] = "My method"      # row heading in tables
        paper: ClassVar[str] = "arXiv:2301.00001"
        version: ClassVar[int] = 1              # raise it whenever the numbers may change
        few_shot: ClassVar[bool] = True         # False: the support set is ignored
        needs: ClassVar[tuple[str, ...]] = ("text",)  # of a backbone (backbones/abilities.py)

        strength: float = 1.0                   # hyper-parameters, with defaults
        crops: Crops = Crops(min_scale=0.5)     # a group of them (adapters/_settings.py)

        def fit(self, episode: Episode) -> Predictor:
            text_KD = episode.text_features()
            ...
            return lambda images: episode.backbone.logit_scale * images.features() @ text_KD.T

That is all: the name appears in `list methods`, and tests/test_contract.py tests it without a line
of test code.

- Whatever changes a number is a field: a JSON scalar, optional, a Literal, or a group. Choices are
  checked in `__post_init__`, which raises UserError (adapters/_checks.py). Names of fields are flat
  on the command line and in records, so a name occurs once per method.
- Fields of our methods use `dataclasses`, `typing` and adapters/_settings.py only: their cards are
  then read without importing torch.
- Randomness comes from `episode.rng()`; the backbone is left unchanged; scalars worth recording go
  into `episode.notes`.
- `episode.val` and `episode.prior` may be None, there may be one shot and two classes, and classes
  may have unequal numbers of images: the fit must still work. A class without images keeps its text
  feature as prototype, or the method refuses with a UserError.
- `zero_shot_at`, an optional ClassVar, names the settings at which the method is zero-shot CLIP; a
  test checks it. `tested_at`, another, names settings that keep the training of tests short.
- Imports: benchmark.api, benchmark.training and adapters._* only, besides the libraries; where
  torch is not wanted, benchmark.errors. A third copy of ten lines becomes an
  `adapters/_something.py`.
- The head of a file gives idea, equation, deviations from the paper, expected number and source.
"""
