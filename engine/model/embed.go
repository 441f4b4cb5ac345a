package model

import (
	"math"

	"tare/engine/grad"
)

// embedTokens is about how many tokens are encoded at once.
const embedTokens = 4096

// Embed returns a vector [d] for each text: the mean of its tokens' final hidden states,
// divided by its length, so that the product of two is the cosine of their angle. (Reimers
// and Gurevych 2019, arXiv:1908.10084.) texts are token ids with the model's special tokens,
// none of them empty or longer than the model's positions.
func Embed(m Encoder, texts [][]int32) [][]float32 {
	tp := grad.NewTape(nil)
	out := make([][]float32, 0, len(texts))
	for len(out) < len(texts) {
		var in Inputs
		for _, t := range texts[len(out):] {
			if n := len(in.Tokens); n > 0 && n+len(t) > embedTokens {
				break
			}
			in.Tokens = append(in.Tokens, t...)
			in.Seqs.Lengths = append(in.Seqs.Lengths, len(t))
		}
		tp.NoGrad(func() {
			x := m.Encode(tp, in)
			row := 0
			for _, n := range in.Seqs.Lengths {
				out = append(out, unitMean(x.Data[row*x.Cols:(row+n)*x.Cols], x.Cols))
				row += n
			}
		})
		tp.Reset()
	}
	return out
}

// unitMean returns the direction of the mean row of x [n, d].
func unitMean(x []float32, d int) []float32 {
	sum := make([]float64, d)
	for i, v := range x {
		sum[i%d] += float64(v)
	}
	var squares float64
	for _, v := range sum {
		squares += v * v
	}
	length := math.Sqrt(max(squares, 1e-24))
	unit := make([]float32, d)
	for i, v := range sum {
		unit[i] = float32(v / length)
	}
	return unit
}
