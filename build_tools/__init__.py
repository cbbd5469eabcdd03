"""What setup.py needs beside setuptools, in files of their own."""
