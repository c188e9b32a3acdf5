//! The term index of a part: one tantivy document per block.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use roaring::RoaringBitmap;
use tantivy::index::{InvertedIndexReader, SegmentReader};
use tantivy::postings::TermInfo;
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer, TokenizerManager};
use tantivy::{DocSet, Index, IndexBuilder, SingleSegmentIndexWriter, TERMINATED, TantivyDocument};

use crate::EventsError;
use crate::bundle::Bundle;
use crate::tokens::{BlockTerms, Edge, OPAQUE, TextSet};

/// Arena of the writer in bytes; it sizes the first hash table, not a bound.
const WRITER_BYTES: usize = 15 << 20;
/// Dictionaries up to this many terms are scanned for suffixes and infixes.
const SCAN_TERMS_MAX: usize = 300_000;
/// When more terms than this have an edge token, it tells too little.
const EDGE_TERMS_MAX: usize = 2_000;

/// Name of [`Split`].
const SPLIT: &str = "split";
/// What ends each token or term. No token has it; a term that has it is found by the piece before.
const SEPARATOR: char = '\u{0}';

/// The same between tokens that lie together.
const ENDS: u8 = 0;

/// Splits at [`SEPARATOR`].
#[derive(Clone, Default)]
struct Split {
    token: Token,
}

struct SplitStream<'a> {
    rest: &'a str,
    token: &'a mut Token,
}

impl Tokenizer for Split {
    type TokenStream<'a> = SplitStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> SplitStream<'a> {
        self.token.reset();
        SplitStream { rest: text, token: &mut self.token }
    }
}

impl TokenStream for SplitStream<'_> {
    fn advance(&mut self) -> bool {
        let Some(end) = memchr::memchr(0, self.rest.as_bytes()) else { return false };
        self.token.text.clear();
        self.token.text.push_str(&self.rest[..end]);
        self.token.position = self.token.position.wrapping_add(1);
        self.rest = &self.rest[end + 1..];
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

fn schema() -> (Schema, Field, Field) {
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(SPLIT)
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::Basic);
    let options = TextOptions::default().set_indexing_options(indexing);
    let mut schema = Schema::builder();
    let token = schema.add_text_field("token", options.clone());
    let term = schema.add_text_field("term", options);
    (schema.build(), token, term)
}

/// What the dictionary gets of a block, as [`Split`] takes it: many small texts would each be an allocation.
pub(crate) struct JoinedTerms {
    tokens: String,
    terms: String,
}

impl From<&BlockTerms> for JoinedTerms {
    fn from(terms: &BlockTerms) -> Self {
        Self { tokens: joined(&terms.tokens), terms: joined(&terms.terms) }
    }
}

fn joined(texts: &TextSet) -> String {
    let mut out = String::with_capacity(texts.bytes() + texts.len());
    for text in texts.iter() {
        out.push_str(text);
        out.push(SEPARATOR);
    }
    out
}

/// Builds the index of a part in memory.
pub(crate) struct IndexWriter {
    writer: SingleSegmentIndexWriter,
    bundle: Bundle,
    token: Field,
    term: Field,
}

impl IndexWriter {
    pub(crate) fn new() -> Result<Self, EventsError> {
        let (schema, token, term) = schema();
        let bundle = Bundle::default();
        let tokenizers = TokenizerManager::new();
        tokenizers.register(SPLIT, Split::default());
        let writer = IndexBuilder::default()
            .schema(schema)
            .tokenizers(tokenizers)
            .single_segment_index_writer(bundle.clone(), WRITER_BYTES)
            .map_err(EventsError::Index)?;
        Ok(Self { writer, bundle, token, term })
    }

    /// Adds the next block.
    pub(crate) fn add(&mut self, terms: JoinedTerms) -> Result<(), EventsError> {
        let mut document = TantivyDocument::default();
        document.add_text(self.token, terms.tokens);
        document.add_text(self.term, terms.terms);
        self.writer.add_document(document).map_err(EventsError::Index)
    }

    /// Ends the index and returns its files.
    pub(crate) fn finish(self) -> Result<Bundle, EventsError> {
        self.writer.finalize().map_err(EventsError::Index)?;
        Ok(self.bundle)
    }
}

/// Joins indexes: the documents of the second follow those of the first, and so on.
pub(crate) fn join(indexes: Vec<Index>) -> Result<Bundle, EventsError> {
    let bundle = Bundle::default();
    tantivy::indexer::merge_indices(&indexes, bundle.clone()).map_err(EventsError::Index)?;
    Ok(bundle)
}

/// The index of a part, open.
pub(crate) struct BlockIndex {
    /// As tantivy knows it.
    pub(crate) index: Index,
    tokens: Arc<InvertedIndexReader>,
    terms: Arc<InvertedIndexReader>,
    /// All tokens, each between two [`ENDS`]; there after they were first sought in.
    all_tokens: OnceLock<Vec<u8>>,
    /// Bytes of the section.
    section_bytes: u64,
}

impl BlockIndex {
    /// Opens the index of so many blocks; `section` must have passed its checksum.
    pub(crate) fn open(section: &Bytes, blocks: usize) -> Result<Self, EventsError> {
        let malformed =
            |m: crate::wire::Malformed| EventsError::Index(tantivy::TantivyError::InternalError(m.to_string()));
        let bundle = Bundle::from_bytes(section).map_err(malformed)?;
        let index = Index::open(bundle).map_err(EventsError::Index)?;
        let segments = index.searchable_segments().map_err(EventsError::Index)?;
        let [segment] = segments.as_slice() else {
            return Err(EventsError::Index(tantivy::TantivyError::InternalError("expected one segment".to_owned())));
        };
        let reader = SegmentReader::open(segment).map_err(EventsError::Index)?;
        let (_, token, term) = schema();
        if reader.max_doc() as usize != blocks {
            return Err(EventsError::Index(tantivy::TantivyError::InternalError("number of documents".to_owned())));
        }
        Ok(Self {
            index,
            tokens: reader.inverted_index(token).map_err(EventsError::Index)?,
            terms: reader.inverted_index(term).map_err(EventsError::Index)?,
            all_tokens: OnceLock::new(),
            section_bytes: section.len() as u64,
        })
    }

    /// Bytes that it holds in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.section_bytes + self.all_tokens.get().map_or(0, |all| all.len() as u64)
    }

    /// Blocks that have a token.
    pub(crate) fn token(&self, token: &str) -> Result<RoaringBitmap, EventsError> {
        lookup(&self.tokens, token)
    }

    /// Blocks that have a `name=value` term.
    pub(crate) fn term(&self, term: &str) -> Result<RoaringBitmap, EventsError> {
        lookup(&self.terms, term)
    }

    /// Blocks that have a token with `text` at an edge and those that are opaque; `None` when finding out would cost
    /// more than it saves.
    pub(crate) fn edge(&self, edge: Edge, text: &str) -> Result<Option<RoaringBitmap>, EventsError> {
        let found = match edge {
            Edge::Prefix => self.with_prefix(text)?,
            Edge::Suffix | Edge::Infix => self.with_infix(edge, text)?,
        };
        let Some(found) = found else { return Ok(None) };
        let mut blocks = self.token(OPAQUE)?;
        for info in found {
            read(&self.tokens, &info, &mut blocks)?;
        }
        Ok(Some(blocks))
    }

    /// Tokens that begin with a text; `None` for too many.
    fn with_prefix(&self, text: &str) -> Result<Option<Vec<TermInfo>>, EventsError> {
        let mut found = Vec::new();
        let mut stream = self.tokens.terms().range().ge(text).into_stream().map_err(io)?;
        while stream.advance() && stream.key().starts_with(text.as_bytes()) {
            found.push(stream.value().clone());
            if found.len() > EDGE_TERMS_MAX {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// Tokens that have a text anywhere, or at their end; `None` for too many.
    fn with_infix(&self, edge: Edge, text: &str) -> Result<Option<Vec<TermInfo>>, EventsError> {
        let dictionary = self.tokens.terms();
        if dictionary.num_terms() > SCAN_TERMS_MAX {
            return Ok(None);
        }
        let all = match self.all_tokens.get() {
            Some(all) => all,
            None => {
                let mut all = vec![ENDS];
                let mut stream = dictionary.stream().map_err(io)?;
                while stream.advance() {
                    all.extend_from_slice(stream.key());
                    all.push(ENDS);
                }
                self.all_tokens.get_or_init(|| all)
            }
        };
        let (mut found, mut at) = (Vec::new(), 0);
        let finder = memchr::memmem::Finder::new(text);
        while let Some(place) = finder.find(&all[at..]) {
            let place = at + place;
            let reach = place + text.len();
            let start = memchr::memrchr(ENDS, &all[..place]).map_or(0, |before| before + 1);
            let end = memchr::memchr(ENDS, &all[reach..]).map_or(all.len(), |after| reach + after);
            if edge == Edge::Suffix && end != reach {
                at = place + 1;
                continue;
            }
            at = end;
            found.extend(dictionary.get(&all[start..end]).map_err(io)?);
            if found.len() > EDGE_TERMS_MAX {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }
}

fn io(error: std::io::Error) -> EventsError {
    EventsError::Index(tantivy::TantivyError::from(error))
}

fn lookup(reader: &InvertedIndexReader, key: &str) -> Result<RoaringBitmap, EventsError> {
    let mut blocks = RoaringBitmap::new();
    if let Some(info) = reader.terms().get(key).map_err(io)? {
        read(reader, &info, &mut blocks)?;
    }
    Ok(blocks)
}

fn read(reader: &InvertedIndexReader, info: &TermInfo, blocks: &mut RoaringBitmap) -> Result<(), EventsError> {
    let mut postings = reader.read_postings_from_terminfo(info, IndexRecordOption::Basic).map_err(io)?;
    let mut document = postings.doc();
    while document != TERMINATED {
        blocks.insert(document);
        document = postings.advance();
    }
    Ok(())
}
