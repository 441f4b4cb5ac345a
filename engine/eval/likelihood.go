package eval

import (
	"context"
	"fmt"
	"math"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/text"
)

// request asks for the log-likelihood of tokens[from:], each after those before it.
type request struct {
	tokens []int32
	from   int // at least 1
}

// scorer measures log-likelihoods of token sequences under a model.
type scorer struct {
	m        model.Causal
	tok      *text.Tokenizer
	window   int // most tokens of a sequence that the model is given
	progress func(done, total int)
}

// firstToken returns what stands for an empty context.
func (s *scorer) firstToken() (int32, bool) {
	c := s.m.Info()
	for _, id := range []*model.TokenID{c.BOS, c.EOS} {
		if id != nil && len(*id) > 0 {
			return int32((*id)[0]), true
		}
	}
	return 0, false
}

// pair encodes a context and what follows it together.
func (s *scorer) pair(context, continuation string) (request, error) {
	context, space := trimSpace(context)
	continuation = space + continuation
	if context == "" {
		id, ok := s.firstToken()
		if !ok {
			return request{}, fmt.Errorf("it has no context, and config.json names neither bos_token_id nor eos_token_id to stand for one: %w", ErrTask)
		}
		return request{append([]int32{id}, s.tok.EncodeOrdinary(continuation)...), 1}, nil
	}
	r := request{s.tok.EncodeOrdinary(context + continuation), len(s.tok.EncodeOrdinary(context))}
	if r.from < 1 || r.from >= len(r.tokens) {
		return r, fmt.Errorf("%q after its context has no token of its own: %w", continuation, ErrTask)
	}
	return r, nil
}

// windows cuts a text so that every token is scored once: the first window follows the
// model's first token, where it has one; a later one begins as far back as fits.
func (s *scorer) windows(text string) []request {
	var tokens []int32
	if id, ok := s.firstToken(); ok {
		tokens = append(tokens, id)
	}
	tokens = append(tokens, s.tok.EncodeOrdinary(text)...)
	var out []request
	for done := 1; done < len(tokens); {
		end := min(len(tokens), done+s.window)
		begin := max(0, end-s.window-1)
		out = append(out, request{tokens[begin:end], done - begin})
		done = end
	}
	return out
}

// How much is run at once.
const (
	scoredTokens = 2048    // tokens in a batch
	scoredLogits = 2 << 20 // scores in memory
)

// score returns the log-likelihoods of the requests. Sequences too long for the window
// lose their beginning.
func (s *scorer) score(ctx context.Context, requests []request) ([]float64, error) {
	out := make([]float64, len(requests))
	tp := grad.NewTape(nil)
	for lo := 0; lo < len(requests); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		hi, rows := lo, 0
		var tokens []int32
		var lengths []int
		var scored []target
		for ; hi < len(requests); hi++ {
			r := requests[hi]
			if cut := len(r.tokens) - s.window - 1; cut > 0 {
				r.tokens, r.from = r.tokens[cut:], max(1, r.from-cut)
			}
			n := len(r.tokens) - 1
			if hi > lo && rows+n > scoredTokens {
				break
			}
			for k := r.from; k <= n; k++ {
				scored = append(scored, target{rows + k - 1, r.tokens[k], hi})
			}
			tokens, lengths, rows = append(tokens, r.tokens[:n]...), append(lengths, n), rows+n
		}
		tp.NoGrad(func() { s.batch(tp, tokens, lengths, scored, out) })
		tp.Reset()
		lo = hi
		if s.progress != nil {
			s.progress(lo, len(requests))
		}
	}
	return out, nil
}

// target is a token to be scored: at which row, and for which request.
type target struct {
	row     int
	token   int32
	request int
}

func (s *scorer) batch(tp *grad.Tape, tokens []int32, lengths []int, scored []target, out []float64) {
	x := s.m.Hidden(tp, tokens, grad.Sequences{Lengths: lengths}, nil)
	most := max(1, scoredLogits/s.m.Info().VocabSize)
	for len(scored) > 0 {
		part := scored[:min(most, len(scored))]
		scored = scored[len(part):]
		rows := make([]int, len(part))
		for i, t := range part {
			rows[i] = t.row
		}
		logits := s.m.Logits(tp, tp.GatherRows(x, rows))
		for i, t := range part {
			out[t.request] += logProbability(logits.Data[i*logits.Cols:(i+1)*logits.Cols], t.token)
		}
	}
}

// logProbability returns log softmax(scores) at token.
func logProbability(scores []float32, token int32) float64 {
	most := scores[0]
	for _, v := range scores {
		most = max(most, v)
	}
	var sum float64
	for _, v := range scores {
		sum += math.Exp(float64(v - most))
	}
	return float64(scores[token]-most) - math.Log(sum)
}
