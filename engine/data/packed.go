package data

import (
	"fmt"
	"math/rand/v2"
)

// Packed is a Source over whole documents, as many a batch as fit into a number of
// tokens. A document is a sequence of its own in the batch: none attends to another, and
// positions begin at each. In every epoch the documents are shuffled, put by first-fit
// into bins of that many tokens (each into the first bin that has room; Johnson 1973),
// and the bins are shuffled.
type Packed struct {
	cursor
	spare
	documents []Example
	tokens    int
	bins      [][]int // of the epoch: numbers of documents
}

// NewPacked returns batches of at most tokens tokens of whole documents.
func NewPacked(documents []Example, tokens int, seed uint64) (*Packed, error) {
	if err := checkExamples(documents, 1); err != nil {
		return nil, err
	}
	for i, d := range documents {
		if len(d.Tokens) > tokens {
			return nil, fmt.Errorf("data: document %d has %d tokens, a batch holds %d: split it, or raise the batch or the sequence length", i+1, len(d.Tokens), tokens)
		}
	}
	p := &Packed{documents: documents, tokens: tokens}
	p.cursor = cursor{state: state{Seed: seed, Size: len(documents)}, what: "documents", begin: p.begin}
	p.start()
	return p, nil
}

func (p *Packed) begin(rng *rand.Rand) int {
	order := rng.Perm(len(p.documents))
	p.bins = firstFit(order, func(i int) int { return len(p.documents[i].Tokens) }, p.tokens)
	return len(p.bins)
}

// Next implements Source.
func (p *Packed) Next() (*Batch, error) {
	b := p.empty()
	bin := p.next() // may begin an epoch, which packs anew
	for _, i := range p.bins[bin] {
		b.addExample(p.documents[i])
	}
	return b, nil
}

// firstFit puts items one after the other into the first bin that has room. The rooms are
// the leaves of a tree whose nodes hold the largest below, so that an item's bin is found
// in as many steps as the tree is high.
func firstFit(items []int, size func(item int) int, room int) [][]int {
	leaves := 1
	for leaves < len(items) {
		leaves *= 2
	}
	most := make([]int, 2*leaves) // node i is above 2i and 2i+1; the root is 1
	for i := range most {
		most[i] = room
	}
	var bins [][]int
	for _, item := range items {
		n := size(item)
		at := 1
		for at < leaves {
			if at *= 2; most[at] < n {
				at++
			}
		}
		if at-leaves == len(bins) {
			bins = append(bins, nil)
		}
		bins[at-leaves] = append(bins[at-leaves], item)
		most[at] -= n
		for at /= 2; at > 0; at /= 2 {
			most[at] = max(most[2*at], most[2*at+1])
		}
	}
	return bins
}
