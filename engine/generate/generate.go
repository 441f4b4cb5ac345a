// Package generate continues token sequences: greedily or by sampling, many
// sequences at once, with a key-value cache. It knows token ids only; text and
// templates are the text package's.
package generate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"tare/engine/grad"
	"tare/engine/model"
)

// ErrTooLong marks a prompt that leaves no position for an answer.
var ErrTooLong = errors.New("prompt is longer than the model's positions")

// Options shapes decoding. The zero value is greedy decoding of 64 tokens.
type Options struct {
	MaxTokens   int     // most tokens to add; 0 means 64
	Temperature float64 // 0 is greedy
	TopK        int     // sample among the k likeliest; 0 means all
	TopP        float64 // sample among the likeliest with this much probability; 0 means 1
	Seed        uint64
	Stop        []int32 // a sequence ends after any of these, which it keeps
	// Exact multiplies packed 4-bit weights in f32, as training and evaluation do.
	// Otherwise the activations that meet them are rounded to 8 bits, see grad.Tape's Int8.
	Exact bool
}

// Validate says what is out of range.
func (o Options) Validate() error {
	if o.MaxTokens < 0 || o.TopK < 0 {
		return fmt.Errorf("generate: max tokens %d and top-k %d must not be negative", o.MaxTokens, o.TopK)
	}
	if !(o.Temperature >= 0) || math.IsInf(o.Temperature, 0) {
		return fmt.Errorf("generate: temperature %g, want 0 or more", o.Temperature)
	}
	if !(o.TopP >= 0 && o.TopP <= 1) {
		return fmt.Errorf("generate: top-p %g, want 0 to 1", o.TopP)
	}
	return nil
}

// Run continues every prompt and returns the added tokens. emit, if not nil, sees
// each token as it comes; returning false ends that sequence. A sequence also ends
// when the model's positions are used up.
func Run(ctx context.Context, m model.Causal, prompts [][]int32, o Options, emit func(seq int, token int32) bool) ([][]int32, error) {
	return NewSession(m).Run(ctx, prompts, o, emit)
}

// Session continues prompts that grow from call to call, such as a conversation's. It
// keeps the keys and values of the last call: where a prompt begins as that call's
// sequence in the same place did, answer included, only the rest is run. The model's
// weights must not change in between. A Session is used by one goroutine.
type Session struct {
	m     model.Causal
	tape  *grad.Tape
	cache *model.Cache
	held  [][]int32 // the tokens whose keys and values the cache holds

	// Kept from step to step.
	offsets, last []int
	next          []int32
	sampler       sampler
}

// NewSession returns a session that holds nothing yet.
func NewSession(m model.Causal) *Session {
	return &Session{m: m, tape: grad.NewTape(nil), cache: model.NewCache(len(m.Blocks()), 0)}
}

// reuse makes the cache hold what it can of the prompts, all but their last tokens, and
// returns what it lacks, one prompt below another, with each one's number.
func (s *Session) reuse(prompts [][]int32, exact bool) (tokens []int32, lengths []int) {
	if len(prompts) != len(s.held) || s.tape.Int8 == exact {
		s.held = make([][]int32, len(prompts))
		s.cache = model.NewCache(len(s.m.Blocks()), len(prompts))
		s.tape.Int8 = !exact
	}
	lengths = make([]int, len(prompts))
	for i, p := range prompts {
		n := 0
		for n < min(len(s.held[i]), len(p)-1) && s.held[i][n] == p[n] {
			n++
		}
		s.held[i] = s.held[i][:n]
		s.cache.Truncate(i, n)
		tokens = append(tokens, p[n:]...)
		lengths[i] = len(p) - n
	}
	return tokens, lengths
}

// Run is the function Run, for which it takes from the last call what it can.
func (s *Session) Run(ctx context.Context, prompts [][]int32, o Options, emit func(seq int, token int32) bool) ([][]int32, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.MaxTokens == 0 {
		o.MaxTokens = 64
	}
	positions := s.m.Info().MaxPositions
	rngs := make([]*rand.Rand, len(prompts))
	for i, p := range prompts {
		if len(p) == 0 || len(p) >= positions {
			return nil, fmt.Errorf("generate: prompt %d has %d tokens, the model takes 1 to %d: %w", i, len(p), positions-1, ErrTooLong)
		}
		rngs[i] = rand.New(rand.NewPCG(o.Seed, uint64(i)))
	}
	tokens, lengths := s.reuse(prompts, o.Exact)
	out := make([][]int32, len(prompts))
	for step := 0; step < o.MaxTokens && len(tokens) > 0; step++ {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		next := s.step(tokens, lengths, o, rngs)
		tokens = tokens[:0]
		k := 0
		for i, n := range lengths {
			if n == 0 {
				continue
			}
			token := next[k]
			k++
			out[i] = append(out[i], token)
			lengths[i] = 0
			goOn := emit == nil || emit(i, token)
			if goOn && !slices.Contains(o.Stop, token) && s.cache.Lengths()[i]+1 < positions {
				lengths[i] = 1
				tokens = append(tokens, token)
			}
		}
	}
	return out, nil
}

// step runs the tokens of the sequences that go on and draws one token for each, which
// stand until the next step.
func (s *Session) step(tokens []int32, lengths []int, o Options, rngs []*rand.Rand) []int32 {
	s.next, s.last = s.next[:0], s.last[:0]
	s.offsets = append(s.offsets[:0], s.cache.Lengths()...)
	seqs := grad.Sequences{Lengths: lengths, Offsets: s.offsets}
	s.tape.NoGrad(func() {
		s.tape.Scope(func() *grad.Value {
			x := s.m.Hidden(s.tape, tokens, seqs, s.cache)
			row := 0
			for _, n := range lengths {
				row += n
				if n > 0 {
					s.last = append(s.last, row-1)
				}
			}
			logits := s.m.Logits(s.tape, s.tape.GatherRows(x, s.last))
			k := 0
			for i, n := range lengths {
				if n > 0 {
					s.next = append(s.next, s.sampler.draw(logits.Data[k*logits.Cols:(k+1)*logits.Cols], o, rngs[i]))
					k++
				}
			}
			return logits
		})
	})
	s.cache.Advance(seqs)
	for i, n := range lengths {
		s.held[i] = append(s.held[i], tokens[:n]...)
		tokens = tokens[n:]
	}
	s.tape.Reset()
	return s.next
}

// Sample draws a token from logits, which it leaves as they are.
// Temperature divides the logits; then only the TopK likeliest are kept; of these
// only the likeliest that together have TopP of the probability (Holtzman et al.
// 2020, arXiv:1904.09751), at least one.
func Sample(logits []float32, o Options, rng *rand.Rand) int32 {
	var s sampler
	return s.draw(logits, o, rng)
}

// sampler holds what Sample works in: as much as there are logits.
type sampler struct {
	order []int32
	probs []float64
}

func (s *sampler) draw(logits []float32, o Options, rng *rand.Rand) int32 {
	if o.Temperature == 0 || o.TopK == 1 {
		best := 0
		for i, v := range logits {
			if v > logits[best] {
				best = i
			}
		}
		return int32(best)
	}
	s.order = s.order[:0]
	for i := range logits {
		s.order = append(s.order, int32(i))
	}
	order := s.order
	slices.SortStableFunc(order, func(a, b int32) int {
		switch {
		case logits[a] > logits[b]:
			return -1
		case logits[a] < logits[b]:
			return 1
		}
		return 0
	})
	if o.TopK > 0 && o.TopK < len(order) {
		order = order[:o.TopK]
	}
	s.probs = s.probs[:0]
	var sum float64
	for _, id := range order {
		p := math.Exp((float64(logits[id]) - float64(logits[order[0]])) / o.Temperature)
		s.probs = append(s.probs, p)
		sum += p
	}
	probs := s.probs
	if o.TopP > 0 && o.TopP < 1 {
		var mass float64
		for i, p := range probs {
			if mass += p; mass >= o.TopP*sum {
				probs, sum = probs[:i+1], mass
				break
			}
		}
	}
	u := rng.Float64() * sum
	for i, p := range probs {
		if u -= p; u < 0 {
			return order[i]
		}
	}
	return order[len(probs)-1]
}
