package text

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// bpe is the byte-pair model: a word starts as its characters, or bytes, and the
// neighbouring pair that was merged first in training is merged until no pair has
// a merge. (Sennrich et al. 2016, arXiv:1508.07909.)
type bpe struct {
	vocabulary
	ranks  map[uint64]int32 // pair of ids → rank of its merge
	merged []int32          // rank → id of the result

	bytes        bool       // words come as raw bytes, not yet in the byte-level alphabet
	byteIDs      [256]int32 // id of each byte's character, −1 if none
	ignoreMerges bool       // a word that is a token is that token, whatever the merges say
	byteFallback bool       // an unknown character becomes <0x..> tokens
	fallbackIDs  [256]int32 // these tokens
	fuseUnknown  bool
	unknown      int32 // −1 for none: unknown characters are dropped
	prefix       string
	suffix       string

	breaks bool          // a word may be cut before blank
	glued  map[rune]bool // except after these characters
}

// blank stands for a space in the vocabularies that sentencepiece made.
const blank = '▁'

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

// parseBPE reads a model of the kind BPE.
func parseBPE(raw json.RawMessage, byteLevel bool) (*bpe, error) {
	var c struct {
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
		vocabulary: c.Vocab, unknown: -1,
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
	m.fallbackIDs = byteTokens(m.id)
	m.findBreaks()
	whole := true
	for b := range m.byteIDs {
		id, ok := m.vocabulary[string(byteChars[b])]
		if !ok {
			id, whole = -1, false
		}
		m.byteIDs[b] = id
	}
	if c.Unknown != nil && *c.Unknown != "" {
		id, ok := m.vocabulary[*c.Unknown]
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
			id, ok := m.vocabulary[token]
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

// findBreaks finds where a text that no splitter cuts, as Llama 2 and Gemma have it,
// may be cut nevertheless: before a blank whose character in front is in front of a
// blank in no merge's result, for then no token can reach across.
func (m *bpe) findBreaks() {
	_, known := m.vocabulary[string(blank)]
	if m.bytes || m.ignoreMerges || m.prefix != "" || m.suffix != "" || !known {
		return
	}
	results := make(map[int32]bool, len(m.merged))
	for _, id := range m.merged {
		results[id] = true
	}
	m.breaks, m.glued = true, map[rune]bool{}
	for token, id := range m.vocabulary {
		if !results[id] || !strings.ContainsRune(token, blank) {
			continue
		}
		before := rune(-1)
		for _, r := range token {
			if r == blank && before >= 0 {
				m.glued[before] = true
			}
			before = r
		}
	}
}

// breakAfter returns the length of the first stretch of s that can be encoded by
// itself.
func (m *bpe) breakAfter(s string) int {
	for at := 1; at < len(s); {
		i := strings.Index(s[at:], string(blank))
		if i < 0 {
			break
		}
		at += i
		if before, _ := utf8.DecodeLastRuneInString(s[:at]); !m.glued[before] {
			return at
		}
		at += len(string(blank))
	}
	return len(s)
}
