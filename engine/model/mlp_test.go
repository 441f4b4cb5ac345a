package model

import (
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"testing"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/tensor"
)

// mlpLoss is the network in float64, written from its definition: the mean
// cross-entropy of labels after linear layers with max(0, ·) between them.
func mlpLoss(params [][]float64, sizes []int, x []float64, labels []int32) float64 {
	n := len(labels)
	for l := range len(sizes) - 1 {
		in, out := sizes[l], sizes[l+1]
		w, b, y := params[2*l], params[2*l+1], make([]float64, n*out)
		for r := range n {
			for o := range out {
				sum := b[o]
				for i := range in {
					v := x[r*in+i]
					if l > 0 {
						v = max(v, 0)
					}
					sum += w[o*in+i] * v
				}
				y[r*out+o] = sum
			}
		}
		x = y
	}
	classes, loss := sizes[len(sizes)-1], 0.0
	for r, label := range labels {
		sum := 0.0
		for _, v := range x[r*classes : (r+1)*classes] {
			sum += math.Exp(v)
		}
		loss += math.Log(sum) - x[r*classes+int(label)]
	}
	return loss / float64(n)
}

// points draws n points of a normal distribution with random labels.
func points(n, dims, classes int) (x []float32, labels []int32) {
	rng := rand.New(rand.NewPCG(4, 2))
	for range n {
		for range dims {
			x = append(x, float32(rng.NormFloat64()))
		}
		labels = append(labels, rng.Int32N(int32(classes)))
	}
	return x, labels
}

func newMLP(t *testing.T, sizes ...int) *MLP {
	t.Helper()
	m, err := NewMLP(sizes, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		p.Part = grad.Whole
	}
	return m
}

func TestMLPGradients(t *testing.T) {
	sizes := []int{5, 7, 6, 3}
	m := newMLP(t, sizes...)
	x, labels := points(9, 5, 3)
	var params [][]float64
	for _, p := range m.Params() {
		params = append(params, widen(p.Value.F32()))
	}
	tp := grad.NewTape(nil)
	got := map[*grad.Param][]float32{}
	loss := m.Loss(tp, tp.Const(x, 9, 5), labels, 9)
	if want := mlpLoss(params, sizes, widen(x), labels); math.Abs(float64(loss.Data[0])-want) > 1e-5 {
		t.Errorf("loss %v, want %v", loss.Data[0], want)
	}
	if err := tp.Backward(loss, func(p *grad.Param, g *tensor.Tensor) error {
		got[p] = append([]float32(nil), g.F32()...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	const h = 1e-6
	for i, p := range m.Params() {
		for k, v := range params[i] {
			params[i][k] = v + h
			up := mlpLoss(params, sizes, widen(x), labels)
			params[i][k] = v - h
			down := mlpLoss(params, sizes, widen(x), labels)
			params[i][k] = v
			if want := (up - down) / (2 * h); len(got[p]) <= k || math.Abs(float64(got[p][k])-want) > 1e-5 {
				t.Fatalf("%s: gradient %d of %v, want %v", p.Name, k, got[p], want)
			}
		}
	}
}

func widen(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// descend takes a step of gradient descent and returns the mean loss before it.
func descend(t *testing.T, tp *grad.Tape, m *MLP, x []float32, labels []int32, lr float32) float64 {
	t.Helper()
	n := len(labels)
	loss := m.Loss(tp, tp.Const(x, n, len(x)/n), labels, float64(n))
	before := float64(loss.Data[0])
	if err := tp.Backward(loss, func(p *grad.Param, g *tensor.Tensor) error {
		for i, v := range g.F32() {
			p.Value.F32()[i] -= lr * v
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	tp.Reset()
	return before
}

// hits returns the fraction of points whose largest logit is at the label.
func hits(m *MLP, x []float32, labels []int32) float64 {
	n, right := len(labels), 0
	tp := grad.NewTape(nil)
	tp.NoGrad(func() {
		y := m.Logits(tp, tp.Const(x, n, len(x)/n))
		for r, label := range labels {
			row, best := y.Data[r*y.Cols:(r+1)*y.Cols], 0
			for c, v := range row {
				if v > row[best] {
					best = c
				}
			}
			if best == int(label) {
				right++
			}
		}
	})
	tp.Reset()
	return float64(right) / float64(n)
}

func TestMLPLearnsRandomLabels(t *testing.T) {
	m := newMLP(t, 8, 64, 64, 4)
	x, labels := points(64, 8, 4)
	tp := grad.NewTape(nil)
	var loss float64
	for range 500 {
		loss = descend(t, tp, m, x, labels, 0.3)
	}
	if got := hits(m, x, labels); loss > 0.05 || got != 1 {
		t.Errorf("after 500 steps the loss is %v and %v are right", loss, got)
	}
}

func TestMLPLearnsMNIST(t *testing.T) {
	if testing.Short() {
		t.Skip("trains on 45,000 images")
	}
	train, err := data.MNIST(true)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no MNIST: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	test, err := data.MNIST(false)
	if err != nil {
		t.Fatal(err)
	}
	const batch, steps = 64, 700
	m := newMLP(t, 784, 64, 10)
	tp := grad.NewTape(nil)
	for i := range steps {
		descend(t, tp, m, train.Pixels[i*batch*784:(i+1)*batch*784], train.Labels[i*batch:(i+1)*batch], 0.1)
	}
	if got := hits(m, test.Pixels, test.Labels); got < 0.9 {
		t.Errorf("after %d images %.1f %% of the test images are right, want more than 90 %%", batch*steps, 100*got)
	} else {
		t.Logf("%.1f %% after %d images", 100*got, batch*steps)
	}
}

func TestMLPShape(t *testing.T) {
	m := newMLP(t, 3, 5, 2)
	want := []string{"layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"}
	for i, p := range m.Params() {
		if p.Name != want[i] {
			t.Errorf("parameter %d is %s, want %s", i, p.Name, want[i])
		}
	}
	if len(m.Params()) != 4 || len(m.Linears()) != 2 || m.Linears()[1].Name != "layers.1" {
		t.Errorf("%d parameters, %d layers", len(m.Params()), len(m.Linears()))
	}
	again := newMLP(t, 3, 5, 2)
	if a, b := m.Params()[0].Value.F32(), again.Params()[0].Value.F32(); a[0] != b[0] || a[14] != b[14] {
		t.Error("the same seed gives other weights")
	}
	for _, sizes := range [][]int{nil, {3}, {3, 0, 2}, {-1, 2}} {
		if _, err := NewMLP(sizes, 1); err == nil {
			t.Errorf("sizes %v: no error", sizes)
		}
	}
}
