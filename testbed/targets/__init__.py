"""Every parser of foreign files with seeds to mutate: what `testbed.fuzz` runs for minutes and
tests/test_fuzz.py for seconds.
"""

from __future__ import annotations

from benchmark.reference import GOLDEN, PUBLISHED
from testbed.mutation import Target, csv_text, json_text, toml_text
from testbed.targets.adapters import (
    honest_adapter,
    honest_layout_split,
    make_adapter,
    read_adapter,
    read_layout_split,
    read_layout_table,
)
from testbed.targets.archives import crafted_tars, crafted_zips, packed_tars, reader, tars, zips
from testbed.targets.arrays import (
    crafted_confidences,
    crafted_npz,
    crafted_safetensors,
    honest_shard,
    make_shard,
    npz_files,
    prior_files,
    read_listing,
    read_predictions,
    read_prior,
    read_shard,
)
from testbed.targets.datasets import (
    LINES,
    SPLIT,
    crafted_parquets,
    crafted_specs,
    crafted_splits,
    honest_spec,
    make_names,
    memos,
    parquets,
    read_lists,
    read_manifest,
    read_memo,
    read_names,
    read_parquet,
    read_receipt,
    read_spec,
    read_split,
    read_suites,
    read_texts,
    receipts,
    specs,
    suites,
    texts,
)
from testbed.targets.flags import (
    crafted_flags,
    crafted_grid_files,
    crafted_sources,
    grid_trees,
    make_backbone,
    make_flags,
    make_key,
    read_backbone,
    read_flags,
    read_grid_file,
    read_key,
    read_source,
    sources,
)
from testbed.targets.grids import honest_grid, make_grid, read_grid
from testbed.targets.index_files import honest_index, make_index, read_index
from testbed.targets.inputs import from_bytes, from_trees
from testbed.targets.network import honest_download, make_download, read_download
from testbed.targets.pictures import crafted_images, images, read_image
from testbed.targets.records import (
    crafted_stores,
    forged,
    honest_merge,
    make_merge,
    make_record,
    make_store,
    read_golden,
    read_merge,
    read_published,
    read_record,
    read_replay,
    read_store,
    record_trees,
    rows_of,
)
from testbed.targets.submissions import (
    crafted_submissions,
    honest_submission,
    make_submission,
    read_submission,
)
from testbed.targets.weights import (
    HUB_CONFIG,
    crafted_hub_models,
    crafted_torch,
    honest_timm,
    read_hub_model,
    read_timm,
    torch_files,
    weight_files,
    weights_reader,
)

TARGETS = (
    Target(
        "dataset TOML",
        from_trees(specs, toml_text),
        read_spec,
        lambda: toml_text(honest_spec()),
        crafted_specs,
        1.5,
    ),
    Target(
        "suites TOML", from_trees(suites, toml_text), read_suites, lambda: toml_text(suites()[0])
    ),
    Target("text set", from_trees(texts, json_text), read_texts, lambda: json_text(texts()[0])),
    Target(
        "split JSON",
        from_trees(lambda: [SPLIT], json_text),
        read_split,
        lambda: json_text(SPLIT),
        crafted_splits,
    ),
    Target("split lists", from_bytes(lambda: [LINES.encode()]), read_lists, LINES.encode),
    Target("file names", make_names, read_names, lambda: [b"a.jpg"]),
    Target("parquet", from_bytes(parquets), read_parquet, lambda: parquets()[0], crafted_parquets),
    Target("zip", from_bytes(zips), reader("zip"), lambda: zips()[0], crafted_zips, 1.5),
    Target("tar", from_bytes(tars), reader("tar"), lambda: tars()[0], crafted_tars, 1.5),
    Target("tar, packed", from_bytes(packed_tars), reader("tar.gz"), lambda: packed_tars()[1]),
    Target("image", from_bytes(images), read_image, lambda: images()[0], crafted_images, 2),
    Target("record", make_record, read_record, lambda: forged()[0], share=1.5),
    Target("reports", make_store, read_store, forged, crafted_stores),
    Target("state of a grid", make_grid, read_grid, honest_grid),
    Target("replay of a record", make_store, read_replay, forged, crafted_stores, 0.5),
    Target("index of records", make_index, read_index, honest_index),
    Target("merge", make_merge, read_merge, honest_merge),
    Target("submission", make_submission, read_submission, honest_submission, crafted_submissions),
    Target(
        "predictions",
        from_bytes(npz_files),
        read_predictions,
        lambda: npz_files()[1],
        lambda: [*crafted_npz(), *crafted_confidences()],
        1.5,
    ),
    Target("feature shard", make_shard, read_shard, honest_shard, crafted_safetensors, 1.5),
    Target("feature listing", make_shard, read_listing, honest_shard, crafted_safetensors),
    Target(
        "prior", from_bytes(prior_files), read_prior, lambda: prior_files()[0], crafted_safetensors
    ),
    Target("kept adapter", make_adapter, read_adapter, honest_adapter, share=1.5),
    Target(
        "layout of a split JSON",
        from_trees(lambda: [SPLIT], json_text),
        read_layout_split,
        honest_layout_split,
        crafted_splits,
    ),
    Target(
        "layout of tables",
        from_bytes(parquets),
        read_layout_table,
        lambda: parquets()[1],
        crafted_parquets,
    ),
    Target(
        "golden CSV",
        from_trees(lambda: [rows_of(GOLDEN)], csv_text),
        read_golden,
        lambda: csv_text(rows_of(GOLDEN)),
    ),
    Target(
        "published CSV",
        from_trees(lambda: [rows_of(PUBLISHED)], csv_text),
        read_published,
        PUBLISHED.read_bytes,
    ),
    Target(
        "weights, safetensors",
        from_bytes(weight_files),
        weights_reader(".safetensors"),
        lambda: weight_files()[0],
        crafted_safetensors,
        0.7,
    ),
    Target(
        "weights, torch",
        from_bytes(torch_files),
        weights_reader(".pt"),
        lambda: torch_files()[0],
        crafted_torch,
        0.7,
    ),
    Target("weights, timm", from_bytes(torch_files), read_timm, honest_timm, crafted_torch, 0.3),
    Target(
        "hub model",
        from_trees(lambda: [HUB_CONFIG], json_text),
        read_hub_model,
        lambda: json_text(HUB_CONFIG),
        crafted_hub_models,
        0.3,
    ),
    Target(
        "receipt", from_trees(receipts, json_text), read_receipt, lambda: json_text(receipts()[0])
    ),
    Target(
        "manifest",
        from_bytes(lambda: [b"0" * 64 + b" a.jpg\n"]),
        read_manifest,
        lambda: b"0" * 64 + b" a.jpg\n",
    ),
    Target("memory of checksums", from_bytes(memos), read_memo, lambda: memos()[0], memos),
    Target("download", make_download, read_download, honest_download, share=0.7),
    Target("method file", from_bytes(sources), read_source, lambda: sources()[0], crafted_sources),
    Target(
        "flags",
        make_flags,
        read_flags,
        lambda: {"methods": ["coop"], "datasets": ["tiny_digits"]},
        crafted_flags,
    ),
    Target(
        "grid file",
        from_trees(grid_trees, toml_text),
        read_grid_file,
        lambda: toml_text(grid_trees()[0]),
        crafted_grid_files,
        0.5,
    ),
    Target("backbone name", make_backbone, read_backbone, lambda: "tiny", share=0.5),
    Target("key of a record", make_key, read_key, lambda: record_trees()[0]["key"]),
)
