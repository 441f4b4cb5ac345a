package text

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder rewrites the tokens on their way to text.
type decoder func(tokens []string) []string

// runDecode passes tokens through all stages and joins them; without a decoder,
// tokens are words.
func runDecode(stages []decoder, tokens []string) string {
	if len(stages) == 0 {
		return strings.Join(tokens, " ")
	}
	for _, d := range stages {
		tokens = d(tokens)
	}
	return strings.Join(tokens, "")
}

var decoderNames = []string{"BPEDecoder", "ByteFallback", "ByteLevel", "Fuse", "Metaspace", "Replace", "Sequence", "Strip", "WordPiece"}

// parseDecoder returns the stages of a decoder in order.
func parseDecoder(raw json.RawMessage, depth int) ([]decoder, error) {
	c := struct {
		Type     string            `json:"type"`
		Decoders []json.RawMessage `json:"decoders"`
		Pattern  json.RawMessage   `json:"pattern"`
		Content  string            `json:"content"`
		Start    int               `json:"start"`
		Stop     int               `json:"stop"`
		Prefix   string            `json:"prefix"`
		Cleanup  bool              `json:"cleanup"`
		Suffix   string            `json:"suffix"`
	}{Prefix: "##", Cleanup: true, Suffix: "</w>"}
	if isNull(raw) {
		return nil, nil
	}
	if err := unmarshal("decoder", raw, &c, depth); err != nil {
		return nil, err
	}
	one := func(d decoder) ([]decoder, error) { return []decoder{d}, nil }
	switch c.Type {
	case "Sequence":
		return parseAll(c.Decoders, depth, parseDecoder)
	case "Metaspace":
		m, err := parseMetaspace("decoder", raw)
		if err != nil {
			return nil, err
		}
		return one(m.decode)
	case "WordPiece":
		return one(func(tokens []string) []string { return decodeWordPiece(tokens, c.Prefix, c.Cleanup) })
	case "BPEDecoder":
		return one(func(tokens []string) []string { return decodeSuffix(tokens, c.Suffix) })
	case "ByteLevel":
		return one(decodeByteLevel)
	case "ByteFallback":
		return one(decodeByteFallback)
	case "Fuse":
		return one(func(tokens []string) []string { return []string{strings.Join(tokens, "")} })
	case "Replace":
		replace, err := parseReplace("decoder", c.Pattern, c.Content)
		return []decoder{each(replace)}, err
	case "Strip":
		if utf8.RuneCountInString(c.Content) != 1 {
			return nil, malformed("decoder: Strip: content is %q, want one character", c.Content)
		}
		return one(each(func(token string) string {
			for range c.Start {
				rest, ok := strings.CutPrefix(token, c.Content)
				if !ok {
					break
				}
				token = rest
			}
			for range c.Stop {
				rest, ok := strings.CutSuffix(token, c.Content)
				if !ok {
					break
				}
				token = rest
			}
			return token
		}))
	}
	return nil, unknown("decoder", c.Type, decoderNames)
}

func each(f func(string) string) decoder {
	return func(tokens []string) []string {
		out := make([]string, len(tokens))
		for i, token := range tokens {
			out[i] = f(token)
		}
		return out
	}
}

func decodeByteLevel(tokens []string) []string {
	var buf []byte
	for _, token := range tokens {
		buf = appendUnmapped(buf, token)
	}
	return []string{validUTF8(string(buf))}
}

// decodeByteFallback turns runs of <0x..> tokens into text, a U+FFFD for each byte
// of a run that is not UTF-8.
func decodeByteFallback(tokens []string) []string {
	var out []string
	var run []byte
	flush := func() {
		if len(run) == 0 {
			return
		}
		if utf8.Valid(run) {
			out = append(out, string(run))
		} else {
			out = append(out, strings.Repeat("\uFFFD", len(run)))
		}
		run = run[:0]
	}
	for _, token := range tokens {
		if len(token) == 6 && strings.HasPrefix(token, "<0x") && token[5] == '>' {
			if b, err := strconv.ParseUint(token[3:5], 16, 8); err == nil {
				run = append(run, byte(b))
				continue
			}
		}
		flush()
		out = append(out, token)
	}
	flush()
	return out
}

// cleanup undoes the spaces that cutting English at punctuation brings.
var cleanup = []*strings.Replacer{
	strings.NewReplacer(" .", "."), strings.NewReplacer(" ?", "?"), strings.NewReplacer(" !", "!"), strings.NewReplacer(" ,", ","),
	strings.NewReplacer(" ' ", "'"), strings.NewReplacer(" n't", "n't"), strings.NewReplacer(" 'm", "'m"), strings.NewReplacer(" do not", " don't"),
	strings.NewReplacer(" 's", "'s"), strings.NewReplacer(" 've", "'ve"), strings.NewReplacer(" 're", "'re"),
}

// decodeWordPiece puts a space before every token that begins a word.
func decodeWordPiece(tokens []string, prefix string, clean bool) []string {
	out := make([]string, len(tokens))
	for i, token := range tokens {
		if i > 0 {
			if inside, ok := strings.CutPrefix(token, prefix); ok {
				token = inside
			} else {
				token = " " + token
			}
		}
		if clean {
			for _, c := range cleanup {
				token = c.Replace(token)
			}
		}
		out[i] = token
	}
	return out
}

// decodeSuffix turns the suffix of tokens that end a word into a space.
func decodeSuffix(tokens []string, suffix string) []string {
	out := make([]string, len(tokens))
	for i, token := range tokens {
		space := " "
		if i == len(tokens)-1 {
			space = ""
		}
		if suffix != "" {
			token = strings.ReplaceAll(token, suffix, space)
		}
		out[i] = token
	}
	return out
}
