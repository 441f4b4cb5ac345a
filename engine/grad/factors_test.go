package grad_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"tare/engine/grad"
)

// perSample returns the gradient of every sample of n, and the squared norm by use,
// as Watch sees them, beside the gradient of the batch.
func perSample(t *testing.T, n *network) (samples []gradient, norms []map[*grad.Param]float64, batch gradient) {
	t.Helper()
	for range n.seqs.Lengths {
		samples, norms = append(samples, gradient{}), append(norms, map[*grad.Param]float64{})
	}
	ledger := &grad.Ledger{}
	tp := grad.NewTape(ledger)
	tp.Watch = func(f grad.Factors) error {
		parts, err := f.Split(n.seqs)
		if err != nil {
			return err
		}
		for s, part := range parts {
			g := make([]float32, f.Param.PartLen())
			part.Gradient(g)
			if old := samples[s][f.Param]; old != nil {
				for i := range g {
					g[i] += old[i]
				}
			}
			samples[s][f.Param] = g
			norms[s][f.Param] = part.SquaredNorm()
		}
		return nil
	}
	_, batch = n.gradient(t, tp)
	mustBeClean(t, ledger)
	return samples, norms, batch
}

// masked is a stack of linear layers of every kind of part over sequences; alone takes
// the targets of all but one of them away.
func masked(t *testing.T) *network {
	t.Helper()
	n := &network{r: newRand("masked"), seqs: grad.Sequences{Lengths: []int{5, 1, 19}}}
	const in, classes, rows = 9, 4, 25
	whole := n.add(t, grad.Whole, 0.4, 0, 7, in)
	some := n.add(t, grad.RowsOf([]int{0, 2, 5}), 0.4, 0, 7, 7)
	columns := n.add(t, grad.ColumnsOf([]int{1, 6}), 0.4, 0, 7, 7)
	entries := n.add(t, grad.EntriesOf([]int{0, 13, 20}), 0.4, 0, 7, 7)
	bias, part := n.add(t, grad.Whole, 0.2, 0, 7), n.add(t, grad.EntriesOf([]int{3, 4}), 0.2, 0, 7)
	head := n.add(t, grad.Whole, 0.4, 0, classes, 7)
	data, all := normal(n.r, rows*in, 1), n.labels(rows, classes)
	targets := slices.Clone(all)
	n.alone = func(s int) {
		at := 0
		for i, l := range n.seqs.Lengths {
			for r := at; r < at+l; r++ {
				if targets[r] = -1; i == s {
					targets[r] = all[r]
				}
			}
			at += l
		}
	}
	n.loss = func(tp *grad.Tape) *grad.Value {
		x := tp.Tanh(tp.AddBias(tp.Linear(tp.Const(data, rows, in), whole), bias))
		x = tp.Checkpoint(x, func(tp *grad.Tape, x *grad.Value) *grad.Value {
			return tp.Tanh(tp.AddLinear(tp.Linear(x, some), x, columns, 0.5))
		})
		x = tp.AddBias(tp.Tanh(tp.Linear(x, entries)), part)
		return tp.ChunkedCrossEntropy(x, targets, rows, classes, 1, func(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.Linear(x, head) })
	}
	return n
}

// Samples sum to the batch's gradient, and each is the gradient of the loss that all
// others are taken out of.
func TestPerSampleGradients(t *testing.T) {
	for name, n := range map[string]*network{"sequences": masked(t), "images": convnet(t, 4, 8, 4, false)} {
		samples, norms, batch := perSample(t, n)
		sum := gradient{}
		for p, g := range batch {
			sum[p] = make([]float32, len(g))
			for s := range samples {
				if samples[s][p] == nil {
					t.Fatalf("%s: %s was not watched", name, p.Name)
				}
				for i, v := range samples[s][p] {
					sum[p][i] += v
				}
				near(t, fmt.Sprintf("%s: squared norm of %s in sample %d", name, p.Name, s), []float32{float32(norms[s][p])}, []float64{dot(gradient{p: samples[s][p]}, gradient{p: samples[s][p]})}, 1e-4)
			}
		}
		nearGradient(t, name+": sum over samples", sum, batch, 1e-5)
		for s := range samples {
			n.alone(s)
			_, want := n.gradient(t, grad.NewTape(nil))
			nearGradient(t, fmt.Sprintf("%s: sample %d", name, s), samples[s], want, 1e-5)
		}
	}
}

// Where a sample has many rows, its norm is taken of the gradient itself.
func TestSquaredNormOfManyRows(t *testing.T) {
	r := newRand("rows")
	for _, rows := range []int{0, 1, 2, 50} {
		f := grad.Factors{Param: newParam(t, "w", normal(r, 12, 1), 0, 3, 4), X: normal(r, rows*4, 1), DY: normal(r, rows*3, 1), Rows: rows, XCols: 4, DYCols: 3, Scale: -2}
		f.Param.Part = grad.Whole
		want := product(wide(f.DY), wide(f.X), 3, 4, rows, true, false)
		var norm float64
		for i := range want {
			want[i] *= -2
			norm += want[i] * want[i]
		}
		got := make([]float32, 12)
		f.Gradient(got)
		near(t, "gradient", got, want, 1e-5)
		if d := math.Abs(f.SquaredNorm() - norm); d > 1e-5*(1+norm) {
			t.Errorf("%d rows: %g, want %g", rows, f.SquaredNorm(), norm)
		}
	}
}

func TestSplitRefusesOtherRows(t *testing.T) {
	f := grad.Factors{Param: newParam(t, "w", []float32{1}, 0, 1), Rows: 7}
	if _, err := f.Split(grad.Sequences{Lengths: []int{2, 3}}); err == nil {
		t.Error("7 rows split among 2 sequences of 5")
	}
}

// An error of Watch ends the pass, and nothing stays behind.
func TestWatchError(t *testing.T) {
	want := errors.New("enough")
	n := masked(t)
	ledger := &grad.Ledger{}
	tp := grad.NewTape(ledger)
	tp.Watch = func(grad.Factors) error { return want }
	if err := tp.Backward(n.loss(tp), nil); !errors.Is(err, want) {
		t.Errorf("error %v", err)
	}
	mustBeClean(t, ledger)
	tp.Watch = nil
	if _, g := n.gradient(t, tp); len(g) != len(slices.DeleteFunc(slices.Clone(n.params), func(p *grad.Param) bool { return !p.Trains() })) {
		t.Errorf("%d gradients after an error", len(g))
	}
}
