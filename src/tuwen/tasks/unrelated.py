"""Texts that hardly any collection of pictures answers: what cannot be seen, and what is seldom seen.

Knows two languages. Does not know any collection: one that does hold an astrolabe is no harm, as a threshold looks
at the whole list.
"""

import random
from collections.abc import Sequence
from itertools import combinations, islice

_ENGLISH = """
jurisprudence; the subjunctive mood; amortisation of a loan; a tax deduction; the gold standard; inflation targeting
a statute of limitations; a power of attorney; the categorical imperative; epistemology; a syllogism; a tautology
the law of large numbers; a null hypothesis; a prime number theorem; an eigenvalue; a Fourier transform; entropy
quantum entanglement; a chemical bond; plate tectonics; natural selection; a recessive gene; the immune response
an antonym; an iambic pentameter; a rhetorical question; a loan word; the past perfect tense; a double negative
a software licence; a race condition; garbage collection of memory; a stack overflow; a version number; open source
supply and demand; a hostile takeover; a profit warning; a conflict of interest; a golden parachute; a bear market
a pension reform; a vote of no confidence; the separation of powers; a customs union; a ceasefire agreement
a filibuster; proportional representation; diplomatic immunity; universal suffrage; a trade deficit; a census
nostalgia for the future; a guilty conscience; stage fright; an inferiority complex; wishful thinking; hindsight
a slip of the tongue; a moral dilemma; a white lie; deja vu; a midlife crisis; cognitive dissonance; patience
an astrolabe; a theodolite; a bathysphere; a cyclotron; a wind tunnel; an electron microscope; a Geiger counter
a trilobite fossil; a coelacanth; an axolotl; a pangolin; a tardigrade; an okapi; a narwhal tusk; a cassowary
a harpsichord; a theremin; a hurdy-gurdy; a didgeridoo; an alphorn; a glass harmonica; a mellotron; a bassoon reed
a suit of samurai armour; a trebuchet; a portcullis; a halberd; a chastity belt; a guillotine; a sedan chair
a zeppelin over a city; a steam locomotive on a turntable; an icebreaker in pack ice; a hovercraft; a log flume
a telephone switchboard; a punched card; a vacuum tube; a slide rule; a teleprinter; a daguerreotype; a phonograph
an oil refinery at dusk; a uranium mine; a salt evaporation pond; a blast furnace; a paper mill; a slaughterhouse
an autopsy table; a dental X-ray; a kidney stone; an iron lung; a leech on an arm; an MRI of a brain; a hip joint
a particle detector; a tokamak; a radio telescope dish; a Mars rover; a supernova remnant; the surface of Venus
a cuneiform tablet; an Egyptian sarcophagus; a Viking longship; an Aztec codex; a Roman aqueduct; a rune stone
a beekeeper in a veil; a sumo match; a fencing duel; a bullfight; a log driver; a falconer; a glass blower
an oscilloscope trace; a circuit diagram; a weather map; a seismogram; a barcode; a sheet of music for organ
a page of a phone book; a tax form; a land register; a share certificate; a birth certificate; a parking ticket
"""
_CHINESE = """
法理学; 虚拟语气; 贷款摊销; 抵税; 金本位制; 通货膨胀目标; 诉讼时效; 授权委托书; 定言令式; 认识论; 三段论; 同义反复
大数定律; 零假设; 素数定理; 特征值; 傅里叶变换; 熵增; 量子纠缠; 化学键; 板块构造; 自然选择; 隐性基因; 免疫反应
反义词; 五言绝句的格律; 反问句; 外来语; 过去完成时; 软件许可证; 竞态条件; 内存回收; 版本号; 开源协议; 供给与需求
恶意收购; 利益冲突; 熊市; 养老金改革; 不信任投票; 三权分立; 关税同盟; 停火协议; 比例代表制; 外交豁免权; 普选权
贸易逆差; 人口普查; 怀旧; 内疚; 怯场; 自卑情结; 一厢情愿; 后见之明; 口误; 道德困境; 善意的谎言; 似曾相识; 中年危机
星盘; 经纬仪; 深海潜水球; 回旋加速器; 风洞; 电子显微镜; 盖革计数器; 三叶虫化石; 腔棘鱼; 六角恐龙; 穿山甲; 水熊虫
羽管键琴; 特雷门琴; 手摇风琴; 迪吉里杜管; 阿尔卑斯长号; 玻璃琴; 武士铠甲; 投石机; 断头台; 轿子; 齐柏林飞艇; 破冰船
气垫船; 雪橇赛道; 电话交换台; 打孔卡; 真空管; 计算尺; 电传打字机; 留声机; 炼油厂; 铀矿; 盐田; 高炉; 造纸厂; 屠宰场
解剖台; 牙齿的X光片; 肾结石; 铁肺; 水蛭; 脑部核磁共振; 托卡马克; 射电望远镜; 火星车; 超新星遗迹; 金星表面; 泥板
木乃伊棺; 维京长船; 阿兹特克手抄本; 罗马水道; 养蜂人; 相扑比赛; 击剑; 斗牛; 驯鹰人; 吹玻璃的工匠; 示波器; 电路图
天气图; 地震波形图; 条形码; 管风琴乐谱; 电话簿; 报税表; 土地登记簿; 股票证书; 出生证明; 停车罚单
"""


def unrelated(count: int, languages: Sequence[str]) -> list[str]:
    """`count` different texts, chosen at random, the same every time.

    Args:
        count: when there are not so many, pairs of them go on the list.
        languages: what the model was trained on; without English and Chinese, and where unknown, English is taken.
    """
    chosen = [text for language, text in (("en", _ENGLISH), ("zh", _CHINESE)) if language in languages]
    texts = [
        text.strip() for lines in chosen or [_ENGLISH] for line in lines.split("\n") for text in line.split(";")
    ]
    chance = random.Random(0)
    singles = [text for text in texts if text]
    chance.shuffle(singles)
    pairs = islice(combinations(singles, 2), max(0, count - len(singles)))
    return [*singles[:count], *(f"{one}, {other}" for one, other in pairs)]
