//! Converts a track's language from a BCP 47 tag to the packed ISO 639-2 code in `mdhd` (ISO/IEC 14496-12, 8.4.2).

/// Two-letter codes of ISO 639-1, each followed by the three-letter code of ISO 639-2/T for the same language.
const CODES: &str = "\
aaaar ababk aeave afafr akaka amamh anarg arara asasm avava ayaym azaze babak bebel bgbul bibis bmbam bnben bobod \
brbre bsbos cacat ceche chcha cocos crcre csces cuchu cvchv cycym dadan dedeu dvdiv dzdzo eeewe elell eneng eoepo \
esspa etest eueus fafas ffful fifin fjfij fofao frfra fyfry gagle gdgla glglg gngrn guguj gvglv hahau heheb hihin \
hohmo hrhrv hthat huhun hyhye hzher iaina idind ieile igibo iiiii ikipk ioido isisl itita iuiku jajpn jvjav kakat \
kgkon kikik kjkua kkkaz klkal kmkhm knkan kokor krkau kskas kukur kvkom kwcor kykir lalat lbltz lglug lilim lnlin \
lolao ltlit lulub lvlav mgmlg mhmah mimri mkmkd mlmal mnmon mrmar msmsa mtmlt mymya nanau nbnob ndnde nenep ngndo \
nlnld nnnno nonor nrnbl nvnav nynya ococi ojoji omorm orori ososs papan pipli plpol pspus ptpor quque rmroh rnrun \
roron rurus rwkin sasan scsrd sdsnd sesme sgsag sisin skslk slslv smsmo snsna sosom sqsqi srsrp ssssw stsot susun \
svswe swswa tatam tetel tgtgk ththa titir tktuk tltgl tntsn toton trtur tstso tttat twtwi tytah uguig ukukr ururd \
uzuzb veven vivie vovol wawln wowol xhxho yiyid yoyor zazha zhzho zuzul";

/// Packed code of the tag's primary subtag, three times five bits. Languages without a code become "und"
/// (undetermined).
pub(crate) fn pack(tag: &str) -> u16 {
    let primary = tag
        .split(['-', '_'])
        .next()
        .unwrap_or("")
        .to_ascii_lowercase();
    let letters = primary.bytes().all(|byte| byte.is_ascii_lowercase());
    let code = match primary.len() {
        2 if letters => CODES
            .split(' ')
            .find_map(|pair| pair.strip_prefix(primary.as_str())),
        3 if letters => Some(primary.as_str()),
        _ => None,
    };
    let code = code.unwrap_or("und").bytes();
    code.fold(0, |packed, letter| {
        packed << 5 | u16::from(letter - b'a' + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(packed: u16) -> String {
        let letter = |shift: u16| char::from(b'`' + (packed >> shift & 0x1f) as u8);
        [10, 5, 0].map(letter).iter().collect()
    }

    #[test]
    fn languages_become_three_letters() {
        for (tag, code) in [
            ("en", "eng"),
            ("de-AT", "deu"),
            ("EN_us", "eng"),
            ("zh-Hant-TW", "zho"),
            ("aa", "aar"),
            ("zu", "zul"),
            ("gsw-CH", "gsw"),
            ("und", "und"),
            ("", "und"),
            ("x-private", "und"),
            ("i-klingon", "und"),
            ("qq", "und"),
            ("e\u{301}", "und"),
            ("12", "und"),
        ] {
            assert_eq!(unpack(pack(tag)), code, "{tag}");
        }
        assert_eq!(pack("und"), 0x55c4);
    }

    #[test]
    fn codes_are_sorted_and_each_language_is_there_once() {
        let codes: Vec<&str> = CODES.split(' ').collect();
        assert!(codes.is_sorted_by(|one, next| one[..2] < next[..2]));
        assert!(codes.iter().all(|code| code.len() == 5));
        assert_eq!(codes.len(), 183);
    }
}
