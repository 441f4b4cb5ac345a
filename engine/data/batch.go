// Package data turns text into batches: files of plain text, JSON lines, CSV and
// Parquet into records, records into examples, token streams into windows. A batch is rows one
// below another with their lengths; nothing is padded. Sources go on for ever,
// epoch after epoch, and continue from a saved state with the same batches.
//
// Labelled images, MNIST's and those in folders, are read here too.
package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
)

var (
	// ErrEmpty marks data with nothing to learn from.
	ErrEmpty = errors.New("there is no data")
	// ErrFormat marks a file or record that is not in a known shape.
	ErrFormat = errors.New("not in a known format")
)

// Batch is sequences one below another: Lengths[i] tokens of sequence i. Targets
// holds the token to predict at each position, −1 for no loss there.
type Batch struct {
	Tokens, Targets []int32
	Lengths         []int
}

// Count returns the number of positions with a loss.
func (b *Batch) Count() int {
	n := 0
	for _, t := range b.Targets {
		if t >= 0 {
			n++
		}
	}
	return n
}

// add appends a sequence.
func (b *Batch) add(tokens, targets []int32) {
	b.Tokens = append(b.Tokens, tokens...)
	b.Targets = append(b.Targets, targets...)
	b.Lengths = append(b.Lengths, len(tokens))
}

func (b *Batch) addExample(x Example) {
	b.Tokens = append(b.Tokens, x.Tokens...)
	b.Targets = x.appendTargets(b.Targets)
	b.Lengths = append(b.Lengths, len(x.Tokens))
}

// Source gives batches for training. State is small JSON; a source of the same data
// that restores it gives the batches that would have come next.
type Source interface {
	Next() (*Batch, error)
	State() ([]byte, error)
	Restore([]byte) error
}

// Reuser is a Source that takes a batch back when nobody will read it any more, to use
// its memory for one that comes later.
type Reuser interface{ Reuse(*Batch) }

// spare holds the batches that were given back.
type spare struct{ idle []*Batch }

// Reuse implements Reuser.
func (s *spare) Reuse(b *Batch) { s.idle = append(s.idle, b) }

// empty returns a batch without sequences.
func (s *spare) empty() *Batch {
	n := len(s.idle)
	if n == 0 {
		return &Batch{}
	}
	b := s.idle[n-1]
	s.idle = s.idle[:n-1]
	b.Tokens, b.Targets, b.Lengths = b.Tokens[:0], b.Targets[:0], b.Lengths[:0]
	return b
}

// cursor walks through shuffled items, epoch after epoch. Everything random in an
// epoch comes from the seed and the epoch's number.
type cursor struct {
	state
	what  string                   // for errors
	begin func(rng *rand.Rand) int // begins an epoch; returns its number of items
	order []int
}

// state is what a source saves.
type state struct {
	Epoch    int    `json:"epoch"`
	Position int    `json:"position"` // items of the epoch already given
	Seed     uint64 `json:"seed"`
	Size     int    `json:"size"` // of the data, to refuse another data set
}

// start begins the epoch that the state names.
func (c *cursor) start() {
	rng := rand.New(rand.NewPCG(c.Seed, uint64(c.Epoch)))
	c.order = rng.Perm(c.begin(rng))
}

// next returns the number of the next item.
func (c *cursor) next() int {
	if c.Position == len(c.order) {
		c.Epoch++
		c.Position = 0
		c.start()
	}
	c.Position++
	return c.order[c.Position-1]
}

// State implements Source.
func (c *cursor) State() ([]byte, error) { return json.Marshal(c.state) }

// Restore implements Source.
func (c *cursor) Restore(saved []byte) error {
	var s state
	if err := json.Unmarshal(saved, &s); err != nil {
		return fmt.Errorf("data: state of %s %.80q: %w: %w", c.what, saved, err, ErrFormat)
	}
	if s.Size != c.Size {
		return fmt.Errorf("data: the state is of %d %s, the data has %d: resume with the data that the run began with: %w", s.Size, c.what, c.Size, ErrFormat)
	}
	was := c.state
	c.state = s
	c.start()
	if s.Epoch < 0 || s.Position < 0 || s.Position > len(c.order) {
		items := len(c.order)
		c.state = was
		c.start()
		return fmt.Errorf("data: state of %s: epoch %d, position %d of %d: %w", c.what, s.Epoch, s.Position, items, ErrFormat)
	}
	return nil
}
