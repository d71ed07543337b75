"""Callbacks for other people's training loops; each module here needs the library that it is named after.

`pip install 'ryzen[huggingface]'` or `'ryzen[lightning]'` brings it in where it is not there anyway.
"""
