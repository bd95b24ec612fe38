"""Texts.

decoding: from the bytes of a file to text.
ngrams: words and n-grams of many texts at once, as hashes; murmur: the hash.
semantics: sparse rows projected onto the axes that keep most of them.
tfidf, statistics: the extractors.
"""
