// Package passages makes bilevel problems of sorting short passages of the bundled texts by
// where they come from: addresses on the State of the Union of the older or the younger
// half, Moby-Dick, or Newton's Opticks.
package passages

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"tare/engine/checkpoint"
	"tare/engine/text"
	"tare/lab/bundle"
)

// Classes is the number of sources.
const Classes = 4

// Tokens is the length of a passage: the first of as many words.
const Tokens = 12

// ErrSizes marks sets of passages that the texts cannot give.
var ErrSizes = errors.New("not so many passages")

// Set is passages with their sources, Tokens [n, 12].
type Set struct {
	Tokens []int32
	Labels []int32
}

// Sizes are passages a class.
type Sizes struct {
	Lower, Upper int // of the training texts, disjoint: for the lower and the upper level
	Valid, Test  int // of the validation and the test texts
}

// Corpus is passages drawn for one seed, in tokens of the bundled model, and that model's
// vectors of tokens.
type Corpus struct {
	Lower, Upper, Valid, Test Set
	Vocab, Width              int
	Vectors                   []float32 // [Vocab, Width], of mean square 1
}

// Draw returns passages that do not overlap.
func Draw(s Sizes, seed uint64) (*Corpus, error) {
	if s.Lower < 1 || s.Upper < 1 || s.Valid < 1 || s.Test < 1 {
		return nil, fmt.Errorf("passages: %+v: want at least 1 of each set: %w", s, ErrSizes)
	}
	t, err := openTokens()
	if err != nil {
		return nil, err
	}
	c := &Corpus{Vocab: len(t.vectors) / t.width, Width: t.width, Vectors: t.vectors}
	rng := rand.New(rand.NewPCG(seed, 40))
	for class := range Classes {
		for _, part := range []struct {
			split bundle.Split
			take  []int
			to    []*Set
		}{
			{bundle.Train, []int{s.Lower, s.Upper}, []*Set{&c.Lower, &c.Upper}},
			{bundle.Valid, []int{s.Valid}, []*Set{&c.Valid}},
			{bundle.Test, []int{s.Test}, []*Set{&c.Test}},
		} {
			words := sources(part.split)[class]
			order := rng.Perm(len(words) / Tokens)
			for i, take := range part.take {
				if take > len(order) {
					return nil, fmt.Errorf("passages: class %d has %d passages in the %s texts, %+v asks for more: %w", class, len(words)/Tokens, part.split, s, ErrSizes)
				}
				for _, p := range order[:take] {
					tokens := t.EncodeOrdinary(" " + strings.Join(words[p*Tokens:(p+1)*Tokens], " "))
					part.to[i].Tokens = append(part.to[i].Tokens, tokens[:Tokens]...)
					part.to[i].Labels = append(part.to[i].Labels, int32(class))
				}
				order = order[take:]
			}
		}
	}
	return c, nil
}

// tokens is the bundled tokenizer and the model's vectors.
type tokens struct {
	*text.Tokenizer
	vectors []float32
	width   int
}

var openTokens = sync.OnceValues(func() (*tokens, error) {
	path, err := bundle.Folder()
	if err != nil {
		return nil, err
	}
	folder, err := checkpoint.OpenFolder(path)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	raw, err := folder.Read("tokenizer.json")
	if err != nil {
		return nil, err
	}
	t := &tokens{}
	if t.Tokenizer, err = text.Parse(raw); err != nil {
		return nil, err
	}
	table, err := folder.Tensor("model.embed_tokens.weight")
	if err != nil {
		return nil, err
	}
	t.width, t.vectors = table.Shape()[1], make([]float32, table.Len())
	if err := table.ReadF32(t.vectors, 0); err != nil {
		return nil, err
	}
	var square float64
	for _, v := range t.vectors {
		square += float64(v) * float64(v) / float64(len(t.vectors))
	}
	for i := range t.vectors {
		t.vectors[i] /= float32(math.Sqrt(square))
	}
	return t, nil
})

var kept sync.Map // split → func() [Classes][]string

// sources returns each class's words.
func sources(split bundle.Split) [Classes][]string {
	once, _ := kept.LoadOrStore(split, sync.OnceValue(func() (out [Classes][]string) {
		paragraphs := strings.Split(strings.TrimSpace(bundle.Source(split)), "\n\n")
		// An address is one paragraph, in the order of years; Moby-Dick is what follows.
		addresses := slices.IndexFunc(paragraphs, func(p string) bool {
			return strings.HasPrefix(p, "ETYMOLOGY") || strings.HasPrefix(p, "CHAPTER")
		})
		for i, part := range []string{
			strings.Join(paragraphs[:addresses/2], " "),
			strings.Join(paragraphs[addresses/2:addresses], " "),
			strings.Join(paragraphs[addresses:], " "),
			bundle.Opticks(split),
		} {
			out[i] = strings.Fields(part)
		}
		return out
	}))
	return once.(func() [Classes][]string)()
}
