package data

import (
	"fmt"
	"math/rand/v2"

	"tare/engine/text"
)

// Example is one sequence; its first Prompt tokens have no loss.
type Example struct {
	Tokens []int32
	Prompt int
}

// appendTargets appends the next token at every position, −1 where that is a token of the
// prompt and at the end.
func (e Example) appendTargets(to []int32) []int32 {
	for i := range e.Tokens {
		next := int32(-1)
		if i+1 < len(e.Tokens) && i+1 >= e.Prompt {
			next = e.Tokens[i+1]
		}
		to = append(to, next)
	}
	return to
}

// Examples is a Source over examples in shuffled order, every batch full.
type Examples struct {
	cursor
	spare
	examples []Example
	batch    int
}

// NewExamples returns batches of batch examples.
func NewExamples(ex []Example, batch int, seed uint64) (*Examples, error) {
	if err := checkExamples(ex, batch); err != nil {
		return nil, err
	}
	e := &Examples{examples: ex, batch: batch}
	e.cursor = cursor{
		state: state{Seed: seed, Size: len(ex)}, what: "examples",
		begin: func(*rand.Rand) int { return len(ex) },
	}
	e.start()
	return e, nil
}

// Next implements Source.
func (e *Examples) Next() (*Batch, error) {
	b := e.empty()
	for range e.batch {
		b.addExample(e.examples[e.next()])
	}
	return b, nil
}

// ExampleBatches returns all examples once, in order; the last batch may be smaller.
func ExampleBatches(ex []Example, batch int) ([]*Batch, error) {
	if err := checkExamples(ex, batch); err != nil {
		return nil, err
	}
	var batches []*Batch
	for i, x := range ex {
		if i%batch == 0 {
			batches = append(batches, &Batch{})
		}
		batches[len(batches)-1].addExample(x)
	}
	return batches, nil
}

func checkExamples(ex []Example, batch int) error {
	if batch < 1 {
		return fmt.Errorf("data: %d examples a batch: must be at least 1", batch)
	}
	if len(ex) == 0 {
		return fmt.Errorf("data: no examples: %w", ErrEmpty)
	}
	for i, x := range ex {
		if len(x.Tokens) < 2 || x.Prompt < 0 || x.Prompt >= len(x.Tokens) {
			return fmt.Errorf("data: example %d has %d tokens, %d of them prompt: nothing to predict: %w", i+1, len(x.Tokens), x.Prompt, ErrEmpty)
		}
	}
	return nil
}

// Tokenize encodes records: a text whole, a prompt and its completion one after the
// other, so that the border falls between two tokens. eos ends every example unless
// it is −1 or the record was rendered by a template, which ends it itself. An example longer than maxLen is an error; nothing is cut off.
func Tokenize(tok *text.Tokenizer, records []Record, maxLen int, eos int32) ([]Example, error) {
	if len(records) == 0 {
		return nil, fmt.Errorf("data: no records: %w", ErrEmpty)
	}
	examples := make([]Example, len(records))
	for i, r := range records {
		var x Example
		encode := tok.Encode
		if r.Rendered {
			encode = tok.EncodeOrdinary
		}
		if r.Completion == "" {
			x.Tokens = encode(r.Text)
		} else {
			x.Tokens = encode(r.Prompt)
			x.Prompt = len(x.Tokens)
			x.Tokens = append(x.Tokens, tok.EncodeOrdinary(r.Completion)...)
		}
		if n := len(x.Tokens); eos >= 0 && !r.Rendered && (n == 0 || x.Tokens[n-1] != eos) {
			x.Tokens = append(x.Tokens, eos)
		}
		if len(x.Tokens) > maxLen {
			return nil, fmt.Errorf("data: record %d has %d tokens, at most %d fit: shorten or split it, or raise the limit", i+1, len(x.Tokens), maxLen)
		}
		if len(x.Tokens) < 2 {
			return nil, fmt.Errorf("data: record %d has %d tokens: nothing to predict: %w", i+1, len(x.Tokens), ErrEmpty)
		}
		examples[i] = x
	}
	return examples, nil
}
