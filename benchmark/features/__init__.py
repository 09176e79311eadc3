"""Features: every picture and view decoded, cut and encoded once, and kept on disk.

In: a table of images and a backbone. Out: `api.ImageSet`. May use: everything up to data and
backbones.
"""
