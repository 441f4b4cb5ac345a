package main

import (
	"compress/flate"
	"fmt"
	"io"

	"tare/lab/bundle"
)

// printBaselines says how well compressors and n-grams predict the held-out text of
// the source domain.
func printBaselines(w io.Writer) error {
	train, test := bundle.Source(bundle.Train), bundle.Source(bundle.Test)
	fmt.Fprintf(w, "held-out: %d bytes; training text: %d bytes\n", len(test), len(train))
	const window = 32 << 10 // how far back gzip sees
	for _, c := range []struct{ name, dictionary string }{
		{"gzip -9", ""},
		{"gzip -9 after the last 32 KiB of the training text", train[len(train)-window:]},
	} {
		size, err := deflated(test, c.dictionary)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%.3f bits per byte: %s\n", 8*float64(size)/float64(len(test)), c.name)
	}
	for n := 3; n <= 7; n++ {
		m, err := bundle.TrainNGram(train, n)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%.3f bits per byte: byte %d-gram, interpolated Kneser-Ney\n", m.BitsPerByte(test), n)
	}
	return nil
}

// deflated is the size of text compressed at level 9, without a file's header.
func deflated(text, dictionary string) (int64, error) {
	var n counter
	w, err := flate.NewWriterDict(&n, flate.BestCompression, []byte(dictionary))
	if err != nil {
		return 0, err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return 0, err
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	return int64(n), nil
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
