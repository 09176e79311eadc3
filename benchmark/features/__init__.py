"""Features: every picture and view decoded, cut and encoded once, and kept on disk.

decoding -> transforms (on the host) or resampling (on a GPU) -> encoding -> feature_store; out of
them image_sets makes `api.ImageSet`. In: a table of images and a backbone. May use: everything up
to data and backbones.
"""
