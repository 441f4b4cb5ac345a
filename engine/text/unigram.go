package text

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// unigram cuts a word into the pieces whose scores, logarithms of probabilities,
// have the largest sum:
//
//	argmax over x₁…xₖ = word of Σᵢ score(xᵢ)
//
// A character that no piece covers scores unknownPenalty less than the worst piece.
// (Kudo 2018, arXiv:1804.10959; the sum is found left to right as in Viterbi 1967.)
type unigram struct {
	pieces       []scored
	ids          vocabulary
	trie         trie
	worst        float64
	unknown      int32 // −1 for none: characters that are unknown are dropped
	byteFallback bool  // an unknown stretch becomes <0x..> tokens
	bytes        [256]int32
}

// unknownPenalty is sentencepiece's kUnkPenalty.
const unknownPenalty = 10

// scored is ["piece", score].
type scored struct {
	piece string
	score float64
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *scored) UnmarshalJSON(raw []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(raw, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("a piece has %d parts, want its text and its score", len(pair))
	}
	if err := json.Unmarshal(pair[0], &s.piece); err != nil {
		return err
	}
	return json.Unmarshal(pair[1], &s.score)
}

// parseUnigram reads a model of the kind Unigram.
func parseUnigram(raw json.RawMessage) (*unigram, error) {
	var c struct {
		Vocab        []scored `json:"vocab"`
		Unknown      *int     `json:"unk_id"`
		ByteFallback bool     `json:"byte_fallback"`
	}
	if err := unmarshal("model", raw, &c, 0); err != nil {
		return nil, err
	}
	if len(c.Vocab) == 0 {
		return nil, malformed("model: there is no vocab")
	}
	m := &unigram{pieces: c.Vocab, ids: make(vocabulary, len(c.Vocab)), worst: math.Inf(1), unknown: -1, byteFallback: c.ByteFallback}
	for id, p := range c.Vocab {
		m.ids[p.piece] = int32(id) // of equal pieces the last counts
		m.worst = min(m.worst, p.score)
	}
	if c.Unknown != nil {
		if *c.Unknown < 0 || *c.Unknown >= len(c.Vocab) {
			return nil, malformed("model: unk_id is %d, the vocab has %d pieces", *c.Unknown, len(c.Vocab))
		}
		m.unknown = int32(*c.Unknown)
	}
	m.trie = newTrie(m.ids)
	m.bytes = byteTokens(m.id)
	return m, nil
}

func (m *unigram) id(token string) (int32, bool) { return m.ids.id(token) }

func (m *unigram) each(note func(token string, id int32) error) error {
	for id, p := range m.pieces {
		if err := note(p.piece, int32(id)); err != nil {
			return err
		}
	}
	return nil
}

func (m *unigram) encoder() wordEncoder { return &lattice{m: m} }

// lattice encodes words of a unigram. best[i] is the best way to cut the first i
// bytes.
type lattice struct {
	m    *unigram
	best []lastPiece
	cuts []lastPiece // the pieces of the best cut, from the end
}

// lastPiece ends a way to cut the start of a word.
type lastPiece struct {
	score float64 // of the whole way
	from  int32   // −1 where there is none yet
	id    int32   // the model's unknown where no piece fits
}

// encode implements wordEncoder.
func (l *lattice) encode(dst []int32, word string) []int32 {
	l.search(word)
	l.cuts = l.cuts[:0]
	for end := int32(len(word)); end > 0; end = l.best[end].from {
		l.cuts = append(l.cuts, lastPiece{from: l.best[end].from, id: l.best[end].id})
	}
	unknown := l.m.unknown
	for i := len(l.cuts) - 1; i >= 0; i-- {
		from, id := l.cuts[i].from, l.cuts[i].id
		if id != unknown {
			dst = append(dst, id)
			continue
		}
		for i > 0 && l.cuts[i-1].id == unknown { // unknown neighbours are one
			i--
		}
		end := int32(len(word))
		if i > 0 {
			end = l.cuts[i-1].from
		}
		dst = l.unknownIDs(dst, word[from:end])
	}
	return dst
}

// search fills l.best.
func (l *lattice) search(word string) {
	m := l.m
	l.best = slices.Grow(l.best[:0], len(word)+1)[:len(word)+1]
	for i := range l.best {
		l.best[i] = lastPiece{from: -1}
	}
	for at := 0; at < len(word); {
		_, size := utf8.DecodeRuneInString(word[at:])
		before, whole := l.best[at].score, false
		node := int32(0)
		for i := at; i < len(word); i++ {
			if node = m.trie.child(node, word[i]); node < 0 {
				break
			}
			if id := m.trie.value[node]; id >= 0 {
				l.offer(i+1, lastPiece{before + m.pieces[id].score, int32(at), id})
				whole = whole || i+1 == at+size
			}
		}
		if !whole {
			l.offer(at+size, lastPiece{before + m.worst - unknownPenalty, int32(at), m.unknown})
		}
		at += size
	}
}

func (l *lattice) offer(end int, p lastPiece) {
	if b := &l.best[end]; b.from < 0 || p.score > b.score {
		*b = p
	}
}

// unknownIDs appends what a stretch without pieces becomes.
func (l *lattice) unknownIDs(dst []int32, s string) []int32 {
	m := l.m
	if id, ok := m.ids[s]; ok {
		return append(dst, id)
	}
	if m.byteFallback {
		if ids, ok := appendBytes(dst, &m.bytes, s); ok {
			return ids
		}
	}
	if m.unknown >= 0 {
		dst = append(dst, m.unknown)
	}
	return dst
}
