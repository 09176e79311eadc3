"""The embedded suite: three small datasets the project draws itself (or finds inside scikit-learn)
and a tiny CLIP.

canvas.py    colours, seeds, noise: what the drawers share
shapes.py    tiny_shapes: sixteen kinds of figure on a cluttered ground
shapes_shifted.py  tiny_shapes_shifted: ten of them as a faded print
textures.py  tiny_textures: sixteen surfaces
digits.py    tiny_digits: the handwriting that ships inside scikit-learn
fonts.py     digits set in type: the only digits the tiny CLIP is trained on
captions.py  what can be seen in a training picture, and sentences that say it
train.py     trains the tiny CLIP: python -m benchmark.tiny.train
model.py     build(): the trained tiny CLIP as a genuine open_clip model
exam.py      zero-shot accuracy of a model on the three datasets

Nothing here imports torch before a function is called.
"""
