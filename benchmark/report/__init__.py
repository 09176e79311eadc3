"""Records -> tables, statistics, figures and a page. Works from records alone, without torch.

Comes in: records of a store. Goes out: text, CSV, LaTeX, PDF, a folder with a page.
May use: `records`, `methods` (cards), `data` (names, suites, labels), `compute` (outcomes),
`reference` (published numbers), `grid`, `errors`, `paths`.

record_selection.py  the records of a store that pass the filters of a command
variants.py          what makes numbers comparable: settings, variants of methods, priors
grouping.py          which records may be averaged with which
headings.py          what every row is called
averages.py          mean and spread over seeds, means over the datasets of a suite
image_results.py     classes and test images of a record, and which of them its run got right
class_frames.py      accuracies and confusions class by class, for `export`
significance.py      intervals and paired tests over seeds, images and datasets
ranking.py           the best of every column, and what cannot be told from it
comparison.py        two methods against each other, for `compare`

coverage.py          which datasets a mean is over, and what it is called
result_table.py      a table as plain data
table_notes.py       what stands below a table
tables.py            dataset x shots, method x shots, method x dataset
protocol_tables.py   base-to-new, and the targets of one source
halves.py            base and new classes and their harmonic mean
cost_tables.py       what accuracy costs: parameters, computation, seconds
cell_texts.py        what stands in a cell and above a column
footnotes.py         what stands below tables: signs, notes and facts, each once
short_names.py       long names of rows, cut and numbered
marks.py             the words for the best of a column and for what ties with it
text_tables.py       a table for the terminal, as wide as that
rendering.py         a table as plain text, Markdown, CSV
latex_tables.py      ... and as a float for a paper, as wide as its text
latex_width.py       how wide a text is in LaTeX
frames.py            records as pandas frames: `load_results`
leaderboard.py       one CSV row per result, for `export`
figures.py           curves, costs and differences as PDF and PNG
figure_numbers.py    what figures of one setting show
figure_style.py      widths of papers, letters, colours, places of panels and legends
figure_curves.py     accuracy against shots
figure_cost.py       accuracy against seconds of training; figure_labels.py: names at points
figure_differences.py  points gained over a baseline

page.py              a folder with a page that opens from disk
page_data.py         what the page knows from the start, as JSON
page_views.py        method x dataset for one setting, number of shots and protocol
page_numbers.py      the numbers of a result, in columns
page_names.py        short names of rows
page_halves.py       H of base and new on the page
page_details.py      what the page loads later: lists of records, and each record
page_images.py       the test images that the page shows
page_script.py       data as scripts
browser/             markup, style and code of the page
shell_commands.py    the command that makes a record again

published.py         our numbers beside published ones, for `check --against published`
golden.py            a table of counts that cells must give again, for `check`
"""
