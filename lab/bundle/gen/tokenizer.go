package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tare/engine/text"
	"tare/lab/bundle"
)

// vocabulary is the number of tokens: small, because the checkpoint is, and its
// embedding must not outweigh its layers.
const vocabulary = 2048

// numbers is how often every number up to 99 is shown to the trainer: often enough to
// become one token, so that problems write all of their numbers in the same way.
const numbers = 1500

// writeTokenizer trains the tokenizer on the training text of the source domain and
// a little of what tuning meets, so that its words and the digits have tokens. Of
// the texts it sees the training splits alone.
func writeTokenizer(out string) error {
	opticks := bundle.Opticks(bundle.Train)
	problems, _, _ := bundle.ArithmeticSplits(2000, 0, 0)
	var counting strings.Builder
	for n := range 100 {
		fmt.Fprintf(&counting, " %d", n)
	}
	data, err := text.Train(
		[]string{bundle.Source(bundle.Train), opticks, write(problems), strings.Repeat(counting.String(), numbers)},
		text.TrainOptions{Vocab: vocabulary, Special: []string{"<|endoftext|>"}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "tokenizer.json"), data, 0o644); err != nil {
		return err
	}
	t, err := text.Parse(data)
	if err != nil {
		return err
	}
	fmt.Printf("%d tokens, %d bytes\n", t.VocabSize(), len(data))
	for _, held := range []struct{ name, text string }{
		{"source", bundle.Source(bundle.Test)},
		{"opticks", bundle.Opticks(bundle.Test)},
		{"arithmetic", write(bundle.Arithmetic(4, 2000))},
	} {
		fmt.Printf("%.3f bytes per token: %s\n", float64(len(held.text))/float64(len(t.EncodeOrdinary(held.text))), held.name)
	}
	return nil
}

// write joins problems as a model reads them.
func write(problems []bundle.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.Prompt() + p.Completion())
	}
	return b.String()
}
