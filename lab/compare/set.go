package compare

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/text"
	"tare/lab/bundle"
	"tare/lab/tuning"
)

// The data sets inside the program.
const (
	Opticks    = "bundled:opticks"
	Arithmetic = "bundled:arithmetic"
	SourceText = "bundled:source"
)

// bundledSettings are how long the sets inside the program train: the tune test's
// batches, and as many steps that all methods with three seeds, learning rates chosen,
// end within half an hour on two cores.
var bundledSettings = map[string]Data{
	Opticks:    {Batch: 8, SeqLen: 128, Steps: 40},
	Arithmetic: {Batch: 16, SeqLen: 64, Steps: 40},
}

// sourceBytes of the source domain are enough to see forgetting.
const sourceBytes = 60_000

// split is one part of a set: running text or records.
type part struct {
	text    string
	records []data.Record
}

// set is a data set in three parts that share nothing: to learn from, to choose learning
// rates by, to report.
type set struct {
	name               string
	learn, valid, test part
}

// openSet reads a set inside the program, or a file, whose last twentieth is the test
// part and the one before it the validation part.
func openSet(name string) (*set, error) {
	s := &set{name: name}
	switch {
	case name == Opticks:
		s.learn.text, s.valid.text, s.test.text = bundle.Opticks(bundle.Train), bundle.Opticks(bundle.Valid), bundle.Opticks(bundle.Test)
		return s, nil
	case name == SourceText:
		s.learn.text, s.valid.text, s.test.text = bundle.Source(bundle.Train), bundle.Source(bundle.Valid), bundle.Source(bundle.Test)
		return s, nil
	case name == Arithmetic:
		learn, valid, test := bundle.ArithmeticSplits(8000, 200, 200)
		s.learn.records, s.valid.records, s.test.records = bundle.Records(learn), bundle.Records(valid), bundle.Records(test)
		return s, nil
	case strings.HasPrefix(name, "bundled:"):
		return nil, unknown("bundled data", name, []string{Opticks, Arithmetic, SourceText})
	}
	running, records, err := read(name)
	if err != nil {
		return nil, err
	}
	if records != nil {
		return s, s.cutRecords(records)
	}
	return s, s.cutText(running)
}

// read returns a file's running text, or its records with prompts.
func read(name string) (running string, records []data.Record, err error) {
	if !data.HasRecords(name) {
		running, err = data.ReadText(name)
		return running, nil, err
	}
	if records, err = data.ReadRecords(name); err != nil || len(records) == 0 || records[0].Completion != "" {
		return "", records, err
	}
	var b strings.Builder
	for _, r := range records { // running text, one document a line
		b.WriteString(r.Text + "\n")
	}
	return b.String(), nil, nil
}

func (s *set) cutRecords(r []data.Record) error {
	n := len(r) / 20
	if n == 0 {
		return fmt.Errorf("compare: %s has %d records; validation and test take a twentieth each, so 20 are needed: %w", s.name, len(r), data.ErrEmpty)
	}
	s.learn.records, s.valid.records, s.test.records = r[:len(r)-2*n], r[len(r)-2*n:len(r)-n], r[len(r)-n:]
	return nil
}

func (s *set) cutText(t string) error {
	n := len(t) / 20
	if n == 0 {
		return fmt.Errorf("compare: %s holds next to nothing: %w", s.name, data.ErrEmpty)
	}
	a, b := lineAfter(t, len(t)-2*n), lineAfter(t, len(t)-n)
	s.learn.text, s.valid.text, s.test.text = t[:a], t[a:b], t[b:]
	return nil
}

// lineAfter returns where the line after at begins, or a character where there is none.
func lineAfter(t string, at int) int {
	if nl := strings.IndexByte(t[at:], '\n'); nl >= 0 && at+nl+1 < len(t)-len(t)/40 {
		return at + nl + 1
	}
	for at < len(t) && !utf8.RuneStart(t[at]) {
		at++
	}
	return at
}

// openSource reads the text that forgetting is measured on.
func openSource(name string) (string, error) {
	t := ""
	if name == SourceText {
		t = bundle.Source(bundle.Test)
	} else {
		var records []data.Record
		var err error
		if t, records, err = read(name); err != nil {
			return "", err
		}
		if records != nil {
			return "", fmt.Errorf("compare: %w: source %s holds prompts; forgetting is measured on running text", ErrRecipe, name)
		}
	}
	if len(t) > sourceBytes {
		t = strings.ToValidUTF8(t[:sourceBytes], "")
	}
	return t, nil
}

// hash is of everything that a set holds.
func (s *set) hash() (string, error) {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, p := range []part{s.learn, s.valid, s.test} {
		if err := enc.Encode(p.text); err != nil {
			return "", err
		}
		if err := enc.Encode(p.records); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// source prepares the part to learn from.
func (s *set) source(tok *text.Tokenizer, r tuning.Recipe, seed uint64) (tuning.Data, error) {
	if s.learn.records != nil {
		return tuning.RecordData(tok, s.learn.records, nil, r, -1, seed)
	}
	return tuning.TextData(tok, s.learn.text, "", r, seed)
}

// batches prepares a part to be measured on.
func (p part) batches(tok *text.Tokenizer, d Data) ([]*data.Batch, error) {
	if p.records == nil {
		return data.WindowBatches(tok.EncodeOrdinary(p.text), d.SeqLen, d.Batch)
	}
	examples, err := data.Tokenize(tok, p.records, d.SeqLen, -1)
	if err != nil {
		return nil, err
	}
	return data.ExampleBatches(examples, d.Batch)
}

// questions are the records whose answers can be right or wrong.
func (p part) questions() []eval.Question {
	q := make([]eval.Question, len(p.records))
	for i, r := range p.records {
		q[i] = eval.Question{Prompt: r.Prompt, Answer: r.Completion}
	}
	return q
}

// baseHash is of a base's configuration, tokenizer and tensors, however they lie in files.
func baseHash(f *checkpoint.Folder, tokenizer []byte) (string, error) {
	h := sha256.New()
	h.Write(f.Config)
	h.Write(tokenizer)
	for _, name := range f.Names() {
		t, err := f.Tensor(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %v %v\n", name, t.DType(), t.Shape())
		h.Write(t.Bytes())
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
