"""Language codes as MP4 wants them: ISO 639-2, three letters."""

from __future__ import annotations

_PAIRS = """
af:afr am:amh ar:ara as:asm az:aze ba:bak be:bel bg:bul bn:ben bo:bod br:bre bs:bos ca:cat cs:ces cy:cym da:dan
de:deu el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas fi:fin fo:fao fr:fra ga:gle gl:glg gu:guj ha:hau he:heb
hi:hin hr:hrv ht:hat hu:hun hy:hye id:ind is:isl it:ita iw:heb ja:jpn jv:jav jw:jav ka:kat kk:kaz km:khm kn:kan
ko:kor ku:kur ky:kir la:lat lb:ltz ln:lin lo:lao lt:lit lv:lav mg:mlg mi:mri mk:mkd ml:mal mn:mon mr:mar ms:msa
mt:mlt my:mya nb:nob ne:nep nl:nld nn:nno no:nor oc:oci pa:pan pl:pol ps:pus pt:por ro:ron ru:rus sa:san sd:snd
si:sin sk:slk sl:slv sn:sna so:som sq:sqi sr:srp su:sun sv:swe sw:swa ta:tam te:tel tg:tgk th:tha tk:tuk tl:tgl
tr:tur tt:tat ug:uig uk:ukr ur:urd uz:uzb vi:vie wo:wol xh:xho yi:yid yo:yor zh:zho zu:zul
"""
_TWO_TO_THREE = {pair[:2]: pair[3:] for pair in _PAIRS.split()}


def iso639_2(tag: str | None) -> str:
    """ "pt", "pt-BR" and "por" all give "por"; what is unknown gives "und"."""
    primary = (tag or "").split("-")[0].lower()
    if len(primary) == 3 and primary.isascii() and primary.isalpha():
        return primary
    return _TWO_TO_THREE.get(primary, "und")
