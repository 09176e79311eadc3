"""The page as a browser sees it: markup, style, and code without any library.

page.html.j2   the sections; page.css, how they look: light, dark, narrow, printed
elements.js    elements and scripts of data
texts.js       numbers as people read them
choices.js     what is chosen, the address that says so, and the fields that change it
measures.js    accuracy, calibration and costs; the rows of a view
tables.js      a table that is sorted by its headings
matrix.js      method x dataset
downloads.js   the matrix as CSV and LaTeX
curves.js      accuracy against shots
ranking.js     the ranked list: all numbers of one dataset or of the mean
records.js     the list of records, loaded when it is opened
details.js     the dialog: a row, and the records behind a number
images.js      test images that one gets right and another wrong
start.js       begins when the data are there

`page.py` joins the code into one file, in this order. Only start.js runs anything.
"""
