package generate_test

import (
	"slices"
	"testing"

	"tare/engine/generate"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor/kernel"
)

// counted counts the tokens that a model is run on.
type counted struct {
	model.Causal
	tokens int
}

func (m *counted) Hidden(tp *grad.Tape, tokens []int32, seqs grad.Sequences, c *model.Cache) *grad.Value {
	m.tokens += len(tokens)
	return m.Causal.Hidden(tp, tokens, seqs, c)
}

// packed replaces every layer by one of 4 bits, w ≈ (code − 8)·scale.
func packed(t *testing.T, m model.Causal) model.Causal {
	t.Helper()
	for _, l := range m.Linears() {
		out, in := l.Weight.Dims()
		dense, err := nn.Materialize(l.Weight)
		if err != nil {
			t.Fatal(err)
		}
		q := kernel.NewQ4(out, in, 32)
		for r := range out {
			row := dense.F32()[r*in : (r+1)*in]
			var half [1]uint16
			kernel.F32ToF16(half[:], []float32{kernel.AbsMax(row) / 7})
			var scale [1]float32
			kernel.F16ToF32(scale[:], half[:])
			q.Scales[r], q.Zeros[r] = half[0], 8
			q.Pack(r, 0, row, scale[0], 8)
		}
		l.Weight = &nn.Packed4{Name: l.Name, Q: q}
	}
	return m
}

// A session's answers are those of runs that begin afresh, whatever part of a prompt it
// has read before: a conversation that grows, one that takes another turn, one that
// begins anew, a prompt read already, and two places that exchange prompts.
func TestSessionEqualsFreshRuns(t *testing.T) {
	for name, m := range map[string]model.Causal{"f32": newLlama(t), "4-bit": packed(t, newLlama(t))} {
		for _, exact := range []bool{true, false} {
			seen := &counted{Causal: m}
			s := generate.NewSession(seen)
			o := generate.Options{MaxTokens: 4, Exact: exact}
			run := func(what string, most int, prompts ...[]int32) []int32 {
				t.Helper()
				want, err := generate.Run(t.Context(), m, prompts, o, nil)
				if err != nil {
					t.Fatal(err)
				}
				seen.tokens = 0
				got, err := s.Run(t.Context(), prompts, o, nil)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.EqualFunc(got, want, slices.Equal) {
					t.Errorf("%s, exact %v, %s: %v, afresh %v", name, exact, what, got, want)
				}
				if seen.tokens != most {
					t.Errorf("%s, exact %v, %s: ran %d tokens, want %d", name, exact, what, seen.tokens, most)
				}
				return got[0]
			}
			first := []int32{3, 14, 15, 9, 2, 6}
			answer := run("first", len(first)+3, first)
			// The answer's last token was not run yet.
			second := append(slices.Concat(first, answer), 30, 31)
			answer = run("second", 3+3, second)
			run("third", 2+3, append(slices.Concat(second, answer), 5))
			run("another turn", 2+3, append(slices.Clone(second[:8]), 1, 2))
			run("a prompt read already", 1+3, second[:5])
			run("anew", 2+3, []int32{7, 8})
			run("two", 2+3+6, []int32{7, 8}, []int32{1, 2, 3})
			run("exchanged", 3+2+6, []int32{1, 2, 3}, []int32{7, 8})
			run("one goes on", 1+1+6, []int32{1, 2, 3}, []int32{7, 8})
		}
	}
}

// Exact asks for the chain of largest scores of the packed weights themselves, and a
// session does not mix it with what it read rounded.
func TestExactDecodesPackedWeightsInF32(t *testing.T) {
	m := packed(t, newLlama(t))
	s := generate.NewSession(m)
	p := []int32{3, 14, 15, 9, 2, 6}
	if _, err := s.Run(t.Context(), [][]int32{p}, generate.Options{MaxTokens: 3}, nil); err != nil {
		t.Fatal(err)
	}
	got, err := s.Run(t.Context(), [][]int32{p}, generate.Options{MaxTokens: 10, Exact: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Clone(p)
	for range 10 {
		scores := lastScores(m, all)
		all = append(all, int32(slices.Index(scores, slices.Max(scores))))
	}
	if want := all[len(p):]; !slices.Equal(got[0], want) {
		t.Errorf("%v, want %v", got[0], want)
	}
}
