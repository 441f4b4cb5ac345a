package text

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// bpe is the byte-pair model: a word starts as its characters, or bytes, and the
// neighbouring pair that was merged first in training is merged until no pair has
// a merge. (Sennrich et al. 2016, arXiv:1508.07909.)
type bpe struct {
	vocab  map[string]int32
	ranks  map[uint64]int32 // pair of ids → rank of its merge
	merged []int32          // rank → id of the result

	bytes        bool       // words come as raw bytes, not yet in the byte-level alphabet
	byteIDs      [256]int32 // id of each byte's character, −1 if none
	ignoreMerges bool       // a word that is a token is that token, whatever the merges say
	byteFallback bool       // an unknown character becomes <0x..> tokens
	fuseUnknown  bool
	unknown      int32 // −1 for none: unknown characters are dropped
	prefix       string
	suffix       string
}

// noRank is the rank of a pair that has no merge.
const noRank = math.MaxInt32

func pairKey(a, b int32) uint64 { return uint64(uint32(a))<<32 | uint64(uint32(b)) }

func (m *bpe) rank(a, b int32) int32 {
	if r, ok := m.ranks[pairKey(a, b)]; ok {
		return r
	}
	return noRank
}

// mergeList reads merges in both forms: "a b" and ["a", "b"].
type mergeList [][2]string

// UnmarshalJSON implements json.Unmarshaler.
func (l *mergeList) UnmarshalJSON(raw []byte) error {
	var joined []string
	if err := json.Unmarshal(raw, &joined); err != nil {
		var pairs [][]string
		if json.Unmarshal(raw, &pairs) != nil {
			return err
		}
		for i, p := range pairs {
			if len(p) != 2 {
				return fmt.Errorf("merge %d has %d parts, want 2", i, len(p))
			}
			*l = append(*l, [2]string(p))
		}
		return nil
	}
	for i, s := range joined {
		if strings.HasPrefix(s, "#version") {
			continue
		}
		a, b, ok := strings.Cut(s, " ")
		if !ok || strings.Contains(b, " ") {
			return fmt.Errorf("merge %d is %.60q, want two tokens with a space between", i, s)
		}
		*l = append(*l, [2]string{a, b})
	}
	return nil
}

// parseModel reads the model. byteLevel says that words end up in the byte-level
// alphabet, so that the model may read raw bytes instead.
func parseModel(raw json.RawMessage, byteLevel bool) (*bpe, error) {
	var c struct {
		Type         *string          `json:"type"`
		Vocab        map[string]int32 `json:"vocab"`
		Merges       mergeList        `json:"merges"`
		Dropout      *float64         `json:"dropout"`
		Unknown      *string          `json:"unk_token"`
		Prefix       *string          `json:"continuing_subword_prefix"`
		Suffix       *string          `json:"end_of_word_suffix"`
		FuseUnknown  bool             `json:"fuse_unk"`
		ByteFallback bool             `json:"byte_fallback"`
		IgnoreMerges bool             `json:"ignore_merges"`
	}
	// The kind first: the vocabulary of another kind has another shape.
	var kind struct {
		Type *string `json:"type"`
	}
	if err := unmarshal("model", raw, &kind, 0); err != nil {
		return nil, err
	}
	if kind.Type != nil && *kind.Type != "BPE" {
		return nil, unknown("model", *kind.Type, []string{"BPE"})
	}
	if err := unmarshal("model", raw, &c, 0); err != nil {
		return nil, err
	}
	if len(c.Vocab) == 0 {
		return nil, malformed("model: there is no vocab")
	}
	if c.Dropout != nil && *c.Dropout != 0 {
		return nil, malformed("model: dropout is %v: random merges are not supported, set it to null", *c.Dropout)
	}
	m := &bpe{
		vocab: c.Vocab, unknown: -1,
		ignoreMerges: c.IgnoreMerges, byteFallback: c.ByteFallback, fuseUnknown: c.FuseUnknown,
	}
	if c.Prefix != nil {
		m.prefix = *c.Prefix
	}
	if c.Suffix != nil {
		m.suffix = *c.Suffix
	}
	m.bytes = byteLevel && m.prefix == "" && m.suffix == ""
	if err := m.addMerges(c.Merges); err != nil {
		return nil, err
	}
	whole := true
	for b := range m.byteIDs {
		id, ok := m.vocab[string(byteChars[b])]
		if !ok {
			id, whole = -1, false
		}
		m.byteIDs[b] = id
	}
	if c.Unknown != nil && *c.Unknown != "" {
		id, ok := m.vocab[*c.Unknown]
		switch {
		case ok:
			m.unknown = id
		case !m.bytes || !whole: // else no character can be unknown
			return nil, malformed("model: unk_token %q is not in the vocab", *c.Unknown)
		}
	}
	return m, nil
}

func (m *bpe) addMerges(merges mergeList) error {
	m.ranks = make(map[uint64]int32, len(merges))
	m.merged = make([]int32, len(merges))
	for rank, pair := range merges {
		var ids [3]int32
		for i, token := range []string{pair[0], pair[1], pair[0] + strings.TrimPrefix(pair[1], m.prefix)} {
			id, ok := m.vocab[token]
			if !ok {
				return malformed("model: merge %d (%q %q): %q is not in the vocab", rank, pair[0], pair[1], token)
			}
			ids[i] = id
		}
		m.ranks[pairKey(ids[0], ids[1])] = int32(rank)
		m.merged[rank] = ids[2]
	}
	return nil
}
