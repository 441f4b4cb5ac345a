package bayes

import (
	"context"
	"fmt"
	"math"
)

// ContextTree foretells the next symbol of a sequence from those before it by all context
// trees at once: context-tree weighting (Willems, Shtarkov and Tjalkens, "The Context-Tree
// Weighting Method: Basic Properties", IEEE Transactions on Information Theory 41, 1995). A
// tree S of depth ≤ D says how many of the last symbols matter, which depends on what they
// are, and has a distribution of its own at each leaf. With P_e(s) the probability that a
// Dirichlet mixture ([KT] by default) gives to the symbols that followed context s,
//
//	P(s) = γ P_e(s) + (1−γ) Π_c P(cs),   P(s) = P_e(s) at depth D
//
// and P at the root is Σ_S w(S) P_S, exactly, where w(S) has a factor 1−γ for each inner node
// and γ for each leaf above depth D. There are at least 2^(2^(D−1)) trees; one symbol costs D
// steps. What the mixture loses against the best tree in hindsight is bounded by [TreeBound].
//
// The symbols before a sequence's beginning count as one that is like no other. With code
// "bits" a symbol is written as ⌈log₂ m⌉ bits, the highest first, and each bit is foretold
// by a tree of its own for each of the prefixes, whose contexts are still whole symbols:
// what suits large alphabets, of which few letters follow a context.
//
// Memory: up to one node of 20 + 8m bytes for each symbol and depth; with bits of 36, for
// each symbol, depth and bit.
type ContextTree struct {
	Symbols int     `yaml:"-"` // size of the alphabet; symbols are 0 up to it
	Depth   int     `yaml:"depth" help:"Most symbols before the next that may matter." default:"5"`
	Code    string  `yaml:"code" help:"What a tree foretells: symbols, or bits of them, with a tree for each prefix." default:"symbols"`
	Alpha   float64 `yaml:"alpha" help:"Dirichlet parameter of every letter at a leaf; ½ is Krichevsky and Trofimov's." default:"0.5"`
	Stop    float64 `yaml:"stop" help:"Prior probability γ that a node is a leaf." default:"0.5"`
}

// NewContextTree returns the defaults for an alphabet.
func NewContextTree(symbols int) *ContextTree {
	return &ContextTree{Symbols: symbols, Depth: 5, Code: "symbols", Alpha: 0.5, Stop: 0.5}
}

// Validate says all that is wrong at once.
func (o *ContextTree) Validate() error {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if o.Symbols < 2 || o.Symbols > 1<<16 {
		say("symbols is %d, want 2 to 65536", o.Symbols)
	}
	if o.Depth < 0 || o.Depth > 64 {
		say("depth is %d, want 0 to 64", o.Depth)
	}
	if o.Code != "symbols" && o.Code != "bits" {
		say("code is %q, want symbols or bits", o.Code)
	}
	if !(o.Alpha > 0) || math.IsInf(o.Alpha, 0) {
		say("alpha is %g, want a positive number", o.Alpha)
	}
	if !(o.Stop > 0 && o.Stop < 1) {
		say("stop is %g, want above 0 and below 1", o.Stop)
	}
	return optionsError("context tree", wrong)
}

// Contexts is a mixture of context trees that has seen sequences.
type Contexts struct {
	Options ContextTree
	Losses  []float64 // −log P of each symbol when it came, sequence by sequence
	Loss    float64   // their sum

	trees []*tree // one, or one for each prefix of a symbol's bits
	bits  int     // 0 where a tree foretells symbols
}

// Fit reads sequences in their order; each starts without a past.
func (o *ContextTree) Fit(ctx context.Context, sequences [][]int) (*Contexts, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	f := &Contexts{Options: *o}
	letters, trees := o.Symbols, 1
	if o.Code == "bits" {
		for 1<<f.bits < o.Symbols {
			f.bits++
		}
		letters, trees = 2, 1<<f.bits-1
	}
	for range trees {
		f.trees = append(f.trees, newTree(letters, o))
	}
	n := 0
	for s, symbols := range sequences {
		if err := f.check(s, symbols); err != nil {
			return nil, err
		}
		n += len(symbols)
	}
	if n == 0 {
		return nil, fmt.Errorf("bayes: context tree: %w: no symbols", ErrData)
	}
	for _, symbols := range sequences {
		for t := range symbols {
			if t%4096 == 0 && ctx.Err() != nil {
				return nil, fmt.Errorf("bayes: context tree: after %d of %d symbols: %w", len(f.Losses), n, ctx.Err())
			}
			f.learn(symbols[:t], symbols[t])
		}
	}
	return f, nil
}

func (f *Contexts) check(sequence int, symbols []int) error {
	for t, v := range symbols {
		if v < 0 || v >= f.Options.Symbols {
			return &SymbolError{sequence, t, v, f.Options.Symbols}
		}
	}
	return nil
}

// learn takes the symbol that came after past.
func (f *Contexts) learn(past []int, symbol int) {
	var loss float64
	if f.bits == 0 {
		loss = -f.trees[0].learn(past, symbol)
	} else {
		at := 1 // prefixes are numbered as the nodes of a heap
		for b := f.bits - 1; b >= 0; b-- {
			bit := symbol >> b & 1
			if f.possible(2*at + 1 - bit) { // else this bit is the only one there is
				loss -= f.trees[at-1].learn(past, bit)
			}
			at = 2*at + bit
		}
	}
	f.Losses = append(f.Losses, loss)
	f.Loss += loss
}

// possible says whether a symbol of the alphabet has the prefix.
func (f *Contexts) possible(prefix int) bool {
	for prefix < 1<<f.bits {
		prefix *= 2
	}
	return prefix-1<<f.bits < f.Options.Symbols
}

// Predict returns the probability of every symbol after past, the last symbol last. What is
// not of the alphabet is a [SymbolError].
func (f *Contexts) Predict(past []int) ([]float64, error) {
	if err := f.check(0, past); err != nil {
		return nil, err
	}
	return f.predict(past), nil
}

func (f *Contexts) predict(past []int) []float64 {
	if f.bits == 0 {
		return f.trees[0].predict(past)
	}
	heap := make([]float64, 2<<f.bits) // of each prefix its probability
	heap[1] = 1
	for at := 1; at < 1<<f.bits; at++ {
		switch {
		case !f.possible(at):
		case !f.possible(2*at + 1):
			heap[2*at] = heap[at]
		default:
			p := f.trees[at-1].predict(past)
			heap[2*at], heap[2*at+1] = heap[at]*p[0], heap[at]*p[1]
		}
	}
	return heap[1<<f.bits:][:f.Options.Symbols]
}

// Foretell returns the probability of each symbol of a sequence after those before it, by
// what was learnt, which it leaves as it is.
func (f *Contexts) Foretell(symbols []int) ([][]float64, error) {
	if err := f.check(0, symbols); err != nil {
		return nil, err
	}
	out := make([][]float64, len(symbols))
	for t := range symbols {
		out[t] = f.predict(symbols[:t])
	}
	return out, nil
}

// Bits is the mean loss in bits a symbol.
func (f *Contexts) Bits() float64 { return f.Loss / math.Ln2 / float64(len(f.Losses)) }

// TreeBound is the most, in nats, by which the loss of a mixture of symbols with α = ½ exceeds
// that of one tree with the best distributions in hindsight, on every sequence: −log w(S) for
// the inner nodes and the leaves above depth D of tree S, and [KTBound] for each leaf's
// number of symbols. An inner node has a child for each symbol and one for the beginning.
func (o *ContextTree) TreeBound(inner, leavesAbove int, visits []int) float64 {
	b := -float64(inner)*math.Log1p(-o.Stop) - float64(leavesAbove)*math.Log(o.Stop)
	for _, n := range visits {
		b += KTBound(o.Symbols, n)
	}
	return b
}

// SymbolError is a symbol that is not of the alphabet.
type SymbolError struct {
	Sequence, Place int // from 0
	Symbol          int
	Symbols         int // size of the alphabet
}

// Error numbers sequence and place from 1.
func (e *SymbolError) Error() string {
	return fmt.Sprintf("bayes: sequence %d, symbol %d: %d is none of the %d symbols, which count from 0", e.Sequence+1, e.Place+1, e.Symbol, e.Symbols)
}

// Unwrap returns [ErrData].
func (e *SymbolError) Unwrap() error { return ErrData }
