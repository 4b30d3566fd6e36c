"""What can be plugged in: the registry, and what a method declares that it reads."""

# How modules of ``--plugin`` files are named.
PLUGIN_MODULE = "unlearn_bench_plugin_"
