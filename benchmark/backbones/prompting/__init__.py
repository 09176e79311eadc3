"""Class prompts with learnable context, encoded exactly over the tokens they share.

class_prompts   what the rest of the suite sees: prompts of K classes, `encode(ctx_PE) -> text_KD`
tree            prompts as a tree of tokens; equal beginnings are one path
tiles           the tree cut into tiles of rows for the attention
plans           which tiles, in how many chunks, so that a memory budget holds
shared_prefix   the layers run over a plan
text_layer      one block of a text tower, taken apart
whole_prompt    towers that cannot share: every prompt at full length
"""

from benchmark.backbones.prompting.class_prompts import OpenClipPrompts

__all__ = ["OpenClipPrompts"]
