// Package eval measures models: loss and perplexity on text, exact answers,
// classification accuracy. It trains nothing and keeps nothing.
package eval

import (
	"context"
	"fmt"
	"math"
	"strings"

	"tare/engine/data"
	"tare/engine/generate"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/text"
)

// LossResult is the cross-entropy of a text under a model.
type LossResult struct {
	Loss       float64 `json:"loss"`       // nats a token
	Perplexity float64 `json:"perplexity"` // e^loss
	Tokens     int     `json:"tokens"`
	// BitsPerByte is total bits over the bytes of the text; 0 if not known.
	BitsPerByte float64 `json:"bits_per_byte,omitempty"`
}

// Loss runs the batches once. bytes is the length of the text they stand for, or 0.
func Loss(ctx context.Context, m model.Causal, batches []*data.Batch, bytes int, progress func(done, total int)) (LossResult, error) {
	tp := grad.NewTape(nil)
	var sum float64
	var r LossResult
	for i, b := range batches {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		tp.NoGrad(func() {
			sum += float64(model.Loss(tp, m, b.Tokens, b.Targets, grad.Sequences{Lengths: b.Lengths}, 1).Data[0])
		})
		tp.Reset()
		r.Tokens += b.Count()
		if progress != nil {
			progress(i+1, len(batches))
		}
	}
	if r.Tokens == 0 {
		return r, fmt.Errorf("eval: no token to predict: %w", data.ErrEmpty)
	}
	r.Loss = sum / float64(r.Tokens)
	r.Perplexity = math.Exp(r.Loss)
	if bytes > 0 {
		r.BitsPerByte = sum / math.Ln2 / float64(bytes)
	}
	return r, nil
}

// Question is a prompt with the answer that is exactly right.
type Question struct{ Prompt, Answer string }

// ExactMatch returns the fraction of questions whose greedy continuation, up to the
// first line break and without surrounding space, is the answer.
func ExactMatch(ctx context.Context, m model.Causal, tok *text.Tokenizer, questions []Question, progress func(done, total int)) (float64, error) {
	const batch = 32
	longest := 16 // tokens of an answer
	for _, q := range questions {
		longest = max(longest, len(tok.EncodeOrdinary(q.Answer))+1)
	}
	right := 0
	for lo := 0; lo < len(questions); lo += batch {
		part := questions[lo:min(lo+batch, len(questions))]
		prompts := make([][]int32, len(part))
		for i, q := range part {
			prompts[i] = tok.Encode(q.Prompt)
		}
		got := make([][]int32, len(part))
		// A character may lie across tokens, so what is decoded is all that has come.
		_, err := generate.Run(ctx, m, prompts, generate.Options{MaxTokens: longest, Exact: true}, func(seq int, id int32) bool {
			got[seq] = append(got[seq], id)
			return !strings.Contains(tok.Decode(got[seq], true), "\n")
		})
		if err != nil {
			return 0, err
		}
		for i, q := range part {
			line, _, _ := strings.Cut(strings.TrimLeft(tok.Decode(got[i], true), " "), "\n")
			if strings.TrimSpace(line) == strings.TrimSpace(q.Answer) {
				right++
			}
		}
		if progress != nil {
			progress(lo+len(part), len(questions))
		}
	}
	return float64(right) / float64(max(1, len(questions))), nil
}

// Accuracy returns the fraction of rows of scores [n, classes] whose largest entry
// is at the label.
func Accuracy(scores []float32, classes int, labels []int32) float64 {
	right := 0
	for i, label := range labels {
		row := scores[i*classes : (i+1)*classes]
		best := 0
		for c, v := range row {
			if v > row[best] {
				best = c
			}
		}
		if int32(best) == label {
			right++
		}
	}
	return float64(right) / float64(max(1, len(labels)))
}
