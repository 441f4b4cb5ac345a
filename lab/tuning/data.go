package tuning

import (
	"fmt"

	"tare/engine/data"
	"tare/engine/text"
)

// TextData prepares running text: shuffled windows to train on, the held-out text
// once through to measure. valid may be empty.
func TextData(tok *text.Tokenizer, train, valid string, r Recipe, seed uint64) (Data, error) {
	source, err := data.NewWindows(tok.EncodeOrdinary(train), r.SeqLen, r.Batch, seed)
	if err != nil {
		return Data{}, fmt.Errorf("tuning: training text: %w", err)
	}
	d := Data{Train: source}
	if valid != "" {
		d.Bytes = len(valid)
		if d.Valid, err = data.WindowBatches(tok.EncodeOrdinary(valid), r.SeqLen, r.Batch); err != nil {
			return Data{}, fmt.Errorf("tuning: held-out text: %w", err)
		}
	}
	return d, nil
}

// RecordData prepares records: whole texts, or prompts and completions, of which only
// the completions are learnt. valid may be empty.
func RecordData(tok *text.Tokenizer, train, valid []data.Record, r Recipe, eos int32, seed uint64) (Data, error) {
	examples, err := data.Tokenize(tok, train, r.SeqLen, eos)
	if err != nil {
		return Data{}, fmt.Errorf("tuning: training records: %w", err)
	}
	var source data.Source
	if r.Pack {
		source, err = data.NewPacked(examples, r.Batch*r.SeqLen, seed)
	} else {
		source, err = data.NewExamples(examples, r.Batch, seed)
	}
	if err != nil {
		return Data{}, fmt.Errorf("tuning: training records: %w", err)
	}
	d := Data{Train: source}
	if len(valid) > 0 {
		if examples, err = data.Tokenize(tok, valid, r.SeqLen, eos); err != nil {
			return Data{}, fmt.Errorf("tuning: held-out records: %w", err)
		}
		if d.Valid, err = data.ExampleBatches(examples, r.Batch); err != nil {
			return Data{}, fmt.Errorf("tuning: held-out records: %w", err)
		}
	}
	return d, nil
}

// SampleData prepares the samples of a classifier. held may be nil.
func SampleData(train, held *data.Samples, r Recipe, seed uint64) (Data, error) {
	source, err := data.NewShuffledSamples(train, r.Batch, seed)
	if err != nil {
		return Data{}, fmt.Errorf("tuning: %w", err)
	}
	if held != nil && held.Len() == 0 {
		held = nil
	}
	return Data{Samples: source, Held: held}, nil
}
