package passages

import (
	"fmt"
	"math"
	"math/rand/v2"

	"tare/engine/eval"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/method/optimize"
)

const (
	batch  = 32 // passages in a sample
	hidden = 32
)

// Problem is a bilevel problem and the classifier in it.
type Problem struct {
	*optimize.Taped
	scores func(tp *grad.Tape, tokens []int32) *grad.Value
}

// Accuracy is the share of a set that the classifier of x and y sorts rightly.
func (p *Problem) Accuracy(s *Set, x, y []float64) float64 {
	p.Set(x, y)
	tp := grad.NewTape(nil)
	var scores []float32
	tp.NoGrad(func() { scores = append(scores, p.scores(tp, s.Tokens).Data...) })
	return eval.Accuracy(scores, Classes, s.Labels)
}

// network is the classifier of two of the problems: one layer h' = tanh(W v + b + V h + c) over
// the tokens' vectors v, which stay as they are, and a linear head on the mean of the states.
func network(c *Corpus, seed uint64) (*model.RNN, func(tp *grad.Tape, tokens []int32) *grad.Value, error) {
	m, err := model.NewRNN(model.RNNOptions{Cell: nn.Tanh, Width: c.Width, Hidden: hidden, Layers: 1, Out: Classes}, seed)
	if err != nil {
		return nil, nil, err
	}
	return m, func(tp *grad.Tape, tokens []int32) *grad.Value {
		n := len(tokens) / Tokens
		seqs := grad.Sequences{Lengths: make([]int, n)}
		for i := range seqs.Lengths {
			seqs.Lengths[i] = Tokens
		}
		rows := make([]float32, 0, len(tokens)*c.Width)
		for _, w := range tokens {
			rows = append(rows, c.Vectors[int(w)*c.Width:int(w+1)*c.Width]...)
		}
		states := m.States(tp, tp.Const(rows, len(tokens), c.Width), seqs, nil) // [n·12, hidden]
		return m.Logits(tp, tp.Scale(tp.FoldColumns(tp.Reshape(states, n, Tokens*hidden), hidden), 1.0/Tokens))
	}, nil
}

// Representation is learning what a classifier stands on: x is a recurrent network, y its
// linear head, which the lower level fits with a ridge.
func Representation(c *Corpus, seed uint64) (*Problem, error) {
	m, scores, err := network(c, seed)
	if err != nil {
		return nil, err
	}
	ps := m.Params()
	body, head := ps[:len(ps)-2], ps[len(ps)-2:] // the decoder's weight and bias are the last
	p := &Problem{scores: scores}
	p.Taped, err = optimize.NewTaped(body, head, p.loss(&c.Upper), func(tp *grad.Tape, rng *rand.Rand) *grad.Value {
		return tp.Add(p.loss(&c.Lower)(tp, rng), ridge(tp, head, 0.01))
	})
	return p, err
}

// Cleaning is weighing passages that may be labelled wrongly: a share of the lower level's
// labels are replaced by others, x are logits of the passages' weights, which start at ½, and
// y is the whole recurrent network. The upper level's labels are right.
func Cleaning(c *Corpus, wrong float64, seed uint64) (*Problem, error) {
	if !(wrong >= 0 && wrong <= 1) {
		return nil, fmt.Errorf("passages: a share of %g wrong labels: want 0 to 1", wrong)
	}
	rng := rand.New(rand.NewPCG(seed, 41))
	labels := append([]int32(nil), c.Lower.Labels...)
	for i := range labels {
		if rng.Float64() < wrong {
			labels[i] = (labels[i] + 1 + rng.Int32N(Classes-1)) % Classes
		}
	}
	m, scores, err := network(c, seed)
	if err != nil {
		return nil, err
	}
	weights := grad.NewParam("weights", tensor.New(len(labels), 1))
	p := &Problem{scores: scores}
	p.Taped, err = optimize.NewTaped([]*grad.Param{weights}, m.Params(), p.loss(&c.Upper), func(tp *grad.Tape, rng *rand.Rand) *grad.Value {
		at := sample(rng, len(labels))
		tokens, _ := c.Lower.pick(at)
		right := make([]float32, len(at)*Classes)
		for i, k := range at {
			right[i*Classes+int(labels[k])] = 1
		}
		likelihood := tp.SumCols(tp.Mul(tp.Softmax(scores(tp, tokens)), tp.Const(right, len(at), Classes)))
		weight := tp.Sigmoid(tp.GatherRows(tp.Use(weights), at))
		return tp.Add(tp.Scale(tp.Mean(tp.Mul(weight, tp.Log(likelihood))), -1), ridge(tp, m.Params(), 1e-4))
	})
	return p, err
}

// Regularisation is choosing a ridge for each word: y are the weights of a linear classifier
// of counts of words, x the logarithms of its ridges, and the lower level is strongly convex.
func Regularisation(c *Corpus) (*Problem, error) {
	start := tensor.New(1, c.Vocab)
	for i := range start.F32() {
		start.F32()[i] = float32(math.Log(0.01))
	}
	ridges := grad.NewParam("ridges", start)
	head := grad.NewParam("head", tensor.New(Classes, c.Vocab))
	p := &Problem{scores: func(tp *grad.Tape, tokens []int32) *grad.Value {
		n := len(tokens) / Tokens
		counts := make([]float32, n*c.Vocab)
		for i, w := range tokens {
			counts[i/Tokens*c.Vocab+int(w)]++
		}
		return tp.Linear(tp.Const(counts, n, c.Vocab), head)
	}}
	var err error
	p.Taped, err = optimize.NewTaped([]*grad.Param{ridges}, []*grad.Param{head}, p.loss(&c.Upper), func(tp *grad.Tape, rng *rand.Rand) *grad.Value {
		w := tp.Use(head)
		return tp.Add(p.loss(&c.Lower)(tp, rng), tp.Scale(tp.Sum(tp.Mul(tp.Mul(w, w), tp.Exp(tp.Use(ridges)))), 0.5))
	})
	return p, err
}

// loss is the cross-entropy of a sample of a set.
func (p *Problem) loss(s *Set) optimize.Loss {
	return func(tp *grad.Tape, rng *rand.Rand) *grad.Value {
		tokens, labels := s.pick(sample(rng, len(s.Labels)))
		return tp.CrossEntropy(p.scores(tp, tokens), labels, float64(len(labels)))
	}
}

// sample draws a batch of n, some maybe twice.
func sample(rng *rand.Rand, n int) []int {
	at := make([]int, batch)
	for i := range at {
		at[i] = rng.IntN(n)
	}
	return at
}

func (s *Set) pick(at []int) (tokens, labels []int32) {
	for _, i := range at {
		tokens, labels = append(tokens, s.Tokens[i*Tokens:(i+1)*Tokens]...), append(labels, s.Labels[i])
	}
	return tokens, labels
}

// ridge is (mu/2) Σ‖p‖².
func ridge(tp *grad.Tape, ps []*grad.Param, mu float32) *grad.Value {
	var sum *grad.Value
	for _, p := range ps {
		w := tp.Use(p)
		square := tp.Sum(tp.Mul(w, w))
		if sum == nil {
			sum = square
		} else {
			sum = tp.Add(sum, square)
		}
	}
	return tp.Scale(sum, mu/2)
}
