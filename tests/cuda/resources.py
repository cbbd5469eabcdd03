"""What the compiler made of each CUDA kernel, as a table for docs/performance.md.

python -m tests.cuda.resources build/.../ptxas.txt
"""
