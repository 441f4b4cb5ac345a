package vision

import (
	"math"
	"math/rand/v2"
	"testing"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/method/adapt"
)

// Adapters made for linear layers work on convolutions and recurrent matrices as they
// are: nothing changes at first, a step lowers the loss, merging keeps the scores.
func TestAdaptersOnConvolutionsAndRecurrence(t *testing.T) {
	cnn, err := model.NewCNN(model.CNNOptions{Images: model.Images{Height: 8, Width: 8, Channels: 2, Classes: 3}, Stages: [][]int{{8}, {8}}, Norm: "group"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	rnn, err := model.NewRNN(model.RNNOptions{Cell: nn.GRU, Width: 16, Hidden: 8, Layers: 2, Out: 3}, 1)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 12*128)
	labels := make([]int32, 12)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for i := range labels {
		labels[i] = rng.Int32N(3)
	}
	lora, dora, paca := adapt.NewLoRA(), adapt.NewDoRA(), adapt.NewPaCA()
	lora.Rank, dora.Rank, paca.Rank = 3, 3, 3
	for name, m := range map[string]interface {
		network
		Linears() []*nn.Linear
	}{"cnn": cnn, "rnn": model.Rows{RNN: rnn}} {
		logits := func() []float32 {
			tp := grad.NewTape(nil)
			var y []float32
			tp.NoGrad(func() { y = append(y, m.Logits(tp, tp.Const(x, 12, 128)).Data...) })
			return y
		}
		loss := func(sink grad.Sink) float64 {
			tp := grad.NewTape(nil)
			l := tp.CrossEntropy(m.Logits(tp, tp.Const(x, 12, 128)), labels, 12)
			before := float64(l.Data[0])
			if err := tp.Backward(l, sink); err != nil {
				t.Fatal(err)
			}
			return before
		}
		for method, o := range map[string]adapt.Options{"lora": lora, "dora": dora, "paca": paca} {
			before := logits()
			row, err := adapt.ByName(method)
			if err != nil {
				t.Fatal(err)
			}
			a, err := adapt.Attach(m, row, o, nil, 1)
			if err != nil {
				t.Fatalf("%s on a %s: %v", method, name, err)
			}
			near(t, name+"/"+method+": at first", logits(), before)
			was := loss(func(p *grad.Param, g *tensor.Tensor) error {
				part := make([]float32, p.PartLen())
				p.Gather(part)
				for i, d := range g.F32() {
					part[i] -= 0.05 * d
				}
				p.Scatter(part)
				return nil
			})
			if now := loss(nil); !(now < was) {
				t.Errorf("%s/%s: the loss goes from %v to %v", name, method, was, now)
			}
			adapted := logits()
			if err := a.Merge(); err != nil {
				t.Fatal(err)
			}
			near(t, name+"/"+method+": merged", logits(), adapted)
		}
	}
}

func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Abs(float64(got[i]-want[i])) > 1e-5 {
			t.Errorf("%s: score %d is %v, want %v", what, i, got[i], want[i])
			return
		}
	}
}
