package speed

import (
	"context"
	"fmt"
	"math/rand/v2"

	"tare/bench"
	"tare/engine/tensor/kernel"
)

// product is a matrix product C = A·B, A [m, k] and B [k, n]. The form's letters are
// T where the operand is stored transposed.
type product struct {
	m, k, n int
	form    string
}

// products are square shapes and those of a llama's layers at 1024 tokens: an
// attention projection, the feed-forward block, the head, a weight's gradient.
var products = []product{
	{256, 256, 256, "NN"}, {512, 512, 512, "NN"}, {1024, 1024, 1024, "NN"}, {1024, 1024, 1024, "NT"}, {1024, 1024, 1024, "TN"}, {2048, 2048, 2048, "NN"},
	{1024, 256, 256, "NT"}, {1024, 256, 1024, "NT"}, {1024, 1024, 256, "NT"}, {1024, 256, 4096, "NT"}, {1024, 1024, 256, "NN"}, {1024, 1024, 256, "TN"},
}

func gemmJobs(o Options, threads []int) []job {
	list := products
	if o.Shapes != nil {
		list = nil
		for _, s := range o.Shapes {
			list = append(list, product{s[0], s[1], s[2], "NN"})
		}
	}
	var jobs []job
	for _, t := range threads {
		for _, p := range list {
			jobs = append(jobs, p.job(t))
		}
	}
	return jobs
}

func (p product) job(threads int) job {
	j := job{shape: fmt.Sprintf("%dx%dx%d %s", p.m, p.k, p.n, p.form), threads: threads, unit: "GFLOP",
		amount: 2 * float64(p.m) * float64(p.k) * float64(p.n) / 1e9}
	j.prepare = func(context.Context, *host) (func() error, func(), error) {
		a, b, c := random(p.m*p.k), random(p.k*p.n), make([]float32, p.m*p.n)
		x, y := kernel.Operand{F32: a, LD: p.k}, kernel.Operand{F32: b, LD: p.n}
		if p.form[0] == 'T' {
			x.LD, x.Trans = p.m, true
		}
		if p.form[1] == 'T' {
			y.LD, y.Trans = p.k, true
		}
		return func() error {
			kernel.Gemm(c, p.n, p.m, p.n, p.k, x, y, kernel.GemmOptions{})
			return nil
		}, nil, nil
	}
	j.peers = func(ctx context.Context, h *host) ([]*runner, error) {
		server, err := h.gemmServer(ctx)
		if err != nil {
			return nil, err
		}
		request := map[string]any{"shape": []int{p.m, p.k, p.n}, "form": p.form, "threads": threads, "seconds": h.seconds}
		return []*runner{server.runner(0, j.amount, request)}, nil
	}
	return j
}

// gemmServer returns the process that all products share.
func (h *host) gemmServer(ctx context.Context) (*process, error) {
	if h.gemm.err == nil && h.gemm.process == nil {
		h.gemm.process, h.gemm.err = h.python(ctx, "gemm_peer.py", bench.GemmPeer)
	}
	return h.gemm.process, h.gemm.err
}

// random returns n values in ±1.
func random(n int) []float32 {
	rng := rand.New(rand.NewPCG(1, 1))
	v := make([]float32, n)
	for i := range v {
		v[i] = 2*rng.Float32() - 1
	}
	return v
}
