"""What is a student worth that was trained on search traces? See `__main__`.

sources   what is generated once: searches, samples, guided decoding
arms      data sets made of the sources
students  a student of each data set, and its greedy answers
report    the tables and the line of JSON
"""
