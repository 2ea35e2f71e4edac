"""Where samples come from: the hub, the benchmarks' original files, and the pixels inside them."""
