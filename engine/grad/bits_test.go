package grad_test

import (
	"math"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// Equal bits from step to step, whatever the number of threads: sums are split by the
// shapes alone, never by who computes them. The networks are large enough for every
// loop to be split, and of odd sizes, so that chunks end inside of vectors.
func TestBitsDoNotDependOnThreads(t *testing.T) {
	before := kernel.Threads()
	defer kernel.SetThreads(before)
	for name, build := range map[string]func() *network{
		"llama": func() *network {
			return llama(t, llamaSize{vocab: 517, d: 60, ff: 171, q: 6, kv: 3, layers: 2, lengths: []int{141, 1, 83, 300}})
		},
		"llama, all trained": func() *network {
			return llama(t, llamaSize{vocab: 301, d: 52, ff: 131, q: 2, kv: 1, layers: 1, lengths: []int{70, 260, 3}, plain: true})
		},
		"convnet":   func() *network { return convnet(t, 13, 22, 14, true) },
		"recurrent": func() *network { return recurrent(t, 301, 55) },
	} {
		for _, bf16 := range []bool{false, true} {
			var first []float32
			for _, threads := range []int{1, 2, 3, 2} {
				kernel.SetThreads(threads)
				got := descend(t, build(), bf16)
				if first == nil {
					first = got
				}
				if i := differs(got, first); i >= 0 {
					t.Errorf("%s, bf16 %v: number %d of %d is %v with %d threads, %v with 1", name, bf16, i, len(got), got[i], threads, first[i])
				}
			}
		}
	}
}

// Second derivatives are as reproducible.
func TestBitsOfHVPDoNotDependOnThreads(t *testing.T) {
	before := kernel.Threads()
	defer kernel.SetThreads(before)
	for name, n := range map[string]*network{
		"llama":   llama(t, llamaSize{vocab: 129, d: 36, ff: 61, q: 4, kv: 2, layers: 2, lengths: []int{141, 83}}),
		"convnet": convnet(t, 5, 14, 10, true), "recurrent": recurrent(t, 301, 35),
	} {
		v := n.random(n.r)
		var first []float32
		for _, threads := range []int{1, 2, 3} {
			kernel.SetThreads(threads)
			_, _, hv := n.hvp(t, grad.NewTape(nil), v)
			var got []float32
			for _, p := range n.params {
				got = append(got, hv[p]...)
			}
			if first == nil {
				first = got
			}
			if i := differs(got, first); i >= 0 {
				t.Errorf("%s: number %d of %d is %v with %d threads, %v with 1", name, i, len(got), got[i], threads, first[i])
			}
		}
	}
}

// descend takes two steps and returns losses, gradients and parameters.
func descend(t *testing.T, n *network, bf16 bool) (all []float32) {
	t.Helper()
	tp := grad.NewTape(nil)
	tp.BF16 = bf16
	for range 2 {
		loss := n.loss(tp)
		all = append(all, loss.Data[0])
		if err := tp.Backward(loss, func(p *grad.Param, g *tensor.Tensor) error {
			all = append(all, g.F32()...)
			w := make([]float32, p.PartLen())
			p.Gather(w)
			kernel.Axpy(-0.1, g.F32(), w)
			p.Scatter(w)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range n.params {
		all = append(all, p.Value.F32()...)
	}
	return all
}

// differs returns the first place where the bits of a and b differ, −1 for none.
func differs(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}
