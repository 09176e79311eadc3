"""The methods: one file each, and the file's name is the method's name.

To add one, write `adapters/my_method.py` (or any module of your own, run as `--method
my_lab.my_method`):

    @dataclass(frozen=True)
    class Adapter:
        title: ClassVar[str] = "My method"            # row heading in tables
        paper: ClassVar[str] = "arXiv:2301.00001"
        version: ClassVar[int] = 1                    # raise it whenever the numbers may change
        few_shot: ClassVar[bool] = True               # False: the support set is never looked at

        strength: float = 1.0                         # hyper-parameters: JSON scalars with literal
        defaults

        def fit(self, episode: Episode) -> Predictor:
            text_KD = episode.text_features()
            ...
            return lambda images: episode.backbone.logit_scale * images.features() @ text_KD.T

That is all: the name appears in `list methods`, and tests/test_contract.py tests it without a line
of test code.

- Whatever moves a number is a field; choices are checked in `__post_init__` by raising a UserError
(adapters/_checks.py).
- Randomness comes from `episode.rng()`; the backbone is left as it was found; scalars worth a
record go into `episode.notes`.
- `episode.val` and `episode.prior` may be None, and there may be one shot and two classes: the fit
must still come out.
- `zero_shot_at`, an optional ClassVar, names the settings at which the method promises to be
zero-shot CLIP: a test holds it to that.
- Imports: benchmark.api and adapters._* only, besides the libraries. A third copy of ten lines
becomes an `adapters/_something.py`.
- The head of a file gives idea, equation, deviations from the paper, expected number and source.
"""
